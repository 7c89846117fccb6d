"""A denoiser's bill has on it all that its autoencoder, text encoder, cache and shards have."""

import shutil

import pytest

from ldm.apps.bill.bill import FILE, Bill, read_bill, sums
from ldm.apps.bill.made_of import bill_at, evaluated_by
from ldm.manifest import read_json, read_manifest, write_json


def test_a_run_from_scratch_lists_its_data_and_the_vocabulary(world):
    bill = read_json(world.diffusion / FILE)
    (data,) = bill["data"]
    shards = read_manifest(world.shards)
    assert data["fingerprint"] == shards.fingerprint and data["source"] == "shapes"
    assert (data["num_samples"], data["num_held_out"]) == (64, 16)
    assert data["licences"] == {"none needed: drawn by ldm": 64}
    assert data["for"] == ["autoencoder", "latent cache", "text encoder"]
    (part,) = bill["pretrained"]
    assert part["role"].startswith("tokenizer") and part["for"] == ["text encoder"]
    assert len(part["sha256"]) == 64 and bill["from_scratch"]


def test_the_bill_of_a_cache_outlives_its_shards(world, tmp_path):
    """What lay beside it when it was made may be deleted; the road may be moved."""
    for name in ("autoencoder", "text_encoder", "latents"):
        shutil.copytree(getattr(world, name), tmp_path / name)
    kept = bill_at(str(tmp_path / "latents"))
    assert kept.data[0]["num_samples"] == 64 and kept.is_from_scratch
    (tmp_path / "latents" / FILE).unlink()
    (tmp_path / "autoencoder" / FILE).unlink()
    (tmp_path / "text_encoder" / FILE).unlink()
    (gone,) = bill_at(str(tmp_path / "latents")).data
    assert gone["num_samples"] is None and gone["fingerprint"] == kept.data[0]["fingerprint"]


def test_every_artefact_has_a_bill(world):
    for name in ("shards", "text_encoder", "autoencoder", "latents", "diffusion"):
        bill = bill_at(str(getattr(world, name)))
        assert bill.is_from_scratch and bill.data[0]["num_samples"] == 64
    assert bill_at(str(world.root)) == bill_at(str(world.diffusion / "model"))


def test_a_run_on_its_way_has_a_bill_already(world, tmp_path):
    shutil.copy(world.diffusion / FILE, tmp_path)
    assert bill_at(str(tmp_path)) == bill_at(str(world.diffusion))


def test_networks_that_measured_are_on_it(tmp_path):
    record = {"weights_file": "vgg16-397923af.pth", "weights_sha256": "ab"}
    write_json(tmp_path / "metrics.json", {"lpips": {"value": 1.0, "protocol": {"by": [record]}}})
    bill = evaluated_by(tmp_path)
    assert bill.is_from_scratch and bill.pretrained[0]["role"].startswith("evaluation: LPIPS")
    assert bill.pretrained[0]["name"] == "vgg16" and bill.pretrained[0]["sha256"] == "ab"


def test_one_thing_used_twice_is_one_entry():
    part = {"name": "a", "role": "training: x", "sha256": "1"}
    one, other = (Bill([{**part, "for": [name]}], []) for name in ("denoiser", "autoencoder"))
    (found,) = sums([one, other, one]).pretrained
    assert found["for"] == ["autoencoder", "denoiser"]


@pytest.mark.parametrize(
    "content", [[], {}, {"pretrained": []}, {"pretrained": [{"name": "vgg16"}], "data": []}]
)
def test_a_foreign_or_damaged_bill_is_no_bill_from_scratch(world, tmp_path, content):
    place = shutil.copytree(world.text_encoder, tmp_path / "text")
    assert read_bill(place / FILE).as_json() == read_json(place / FILE)
    write_json(place / FILE, content)
    with pytest.raises(ValueError, match=r"materials\.json is no bill of materials .* Delete it"):
        bill_at(str(place))
    (place / FILE).unlink()
    assert bill_at(str(place)).pretrained[0]["role"].startswith("tokenizer")
