"""A run says by which networks of others it learned."""

from dataclasses import replace

import pytest
import torch

from ldm import weights
from ldm.apps.bill.bill import FILE
from ldm.features.vgg import VGG16
from ldm.losses.lpips import pretrained_lpips
from ldm.manifest import file_hash, read_json, read_manifest


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A random VGG16 under the published name; the table takes it for the published one."""
    path = tmp_path / "vgg16-397923af.pth"
    torch.save(VGG16().state_dict(), path)
    vgg = weights.TABLE["vgg16"]
    file = replace(vgg.weights, sha256=file_hash(path))
    monkeypatch.setitem(weights.TABLE, "vgg16", replace(vgg, files=(file,)))
    return path


def test_the_manifest_of_a_run_with_lpips_names_the_trunk(world, ldm, stand_in, tmp_path):
    more = ("perceptual=lpips", "loss.perceptual=1.0", "max_steps=1", "validate_every=1")
    words = world.train("autoencoder", tmp_path / "run", *more, "from_scratch=false")
    assert ldm(*words, f"weights_dir={tmp_path}") == 0
    entry = read_manifest(tmp_path / "run").facts["pretrained"]["vgg16"]
    assert entry["sha256"] == file_hash(stand_in) and entry["file"] == stand_in.name
    assert "ImageNet" in entry["trained_on"] and "training" in entry["role"]
    assert "pretrained" not in read_manifest(world.autoencoder).facts
    bill = read_json(tmp_path / "run" / FILE)
    assert [part["name"] for part in bill["pretrained"]] == ["vgg16", "lpips_heads"]
    assert not bill["from_scratch"] and bill["pretrained"][0]["for"] == ["autoencoder"]


def test_what_taught_a_run_once_stays_on_its_bill(world, ldm, stand_in, tmp_path, capsys):
    words = world.train("autoencoder", tmp_path / "run", "perceptual=lpips", "max_steps=2")
    words = [*words, "learning_rate=constant", "from_scratch=false", f"weights_dir={tmp_path}"]
    assert ldm(*words, "loss.perceptual=1.0") == 0
    without = [*words, "loss.perceptual=0.0", "max_steps=3"]
    capsys.readouterr()
    assert ldm(*without, "from_scratch=true") == 2
    assert f"by run={tmp_path / 'run'} the autoencoder learned by vgg16" in capsys.readouterr().err
    assert ldm(*without) == 0
    bill = read_json(tmp_path / "run" / FILE)
    assert [part["name"] for part in bill["pretrained"]] == ["vgg16", "lpips_heads"]
    assert len(bill["data"]) == 1
    assert ldm(*without, "from_scratch=true", "resume=never") == 0
    assert read_json(tmp_path / "run" / FILE)["from_scratch"]


def test_lpips_says_by_which_file_it_measures(stand_in, tmp_path, monkeypatch):
    assert "unpublished_weights" not in pretrained_lpips(tmp_path).protocol
    published = replace(weights.TABLE["vgg16"].weights, sha256="ab")
    vgg = replace(weights.TABLE["vgg16"], files=(published,))
    monkeypatch.setitem(weights.TABLE, "vgg16", vgg)
    with pytest.raises(ValueError, match="expected ab"):
        pretrained_lpips(tmp_path)
    protocol = pretrained_lpips(tmp_path, allow_unknown=True).protocol
    assert protocol["unpublished_weights"] == stand_in.name
    assert protocol["weights_sha256"] == file_hash(stand_in)
