"""from_scratch=true: pretrained weights in the way of training are found in seconds."""

import shutil

import pytest

from ldm.apps.bill.bill import FILE
from ldm.apps.check import check
from ldm.apps.compose import compose
from ldm.apps.config_files import config_root
from ldm.apps.errors import UserError
from ldm.manifest import read_json, write_json

EXPERIMENTS = sorted(path.stem for path in (config_root() / "experiment").glob("*_*.yaml"))
FROM_SCRATCH = [name for name in EXPERIMENTS if name.split("_")[0] in ("demo", "digits", "folder")]


def refused(words) -> str:
    with pytest.raises(UserError) as error:
        check("train", [str(word) for word in words], config_dir=None)
    return str(error.value)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_it_holds_where_it_is_said(experiment):
    config = compose("train", [f"experiment={experiment}", "data.root=DATA"])
    assert config.from_scratch == (experiment in FROM_SCRATCH)


def test_lpips_is_refused_without_a_file_or_data():
    said = refused(["experiment=demo_autoencoder", "perceptual=lpips"])
    assert "perceptual=lpips" in said and "ImageNet" in said and "perceptual=own" in said
    assert "from_scratch=false" in said


def test_networks_that_only_measure_are_allowed(world, capsys):
    words = ["evaluate_every=2", "metrics=[fid]", "weights_dir=nowhere"]
    said = refused(world.train("diffusion", "x", *words)[1:])
    assert "pretrained files are missing" in said and "from_scratch" not in said


@pytest.fixture
def bare(world, tmp_path):
    """A model folder from which its run's manifest was left out: anybody's."""
    return shutil.copytree(world.diffusion / "model", tmp_path / "bare")


def test_init_of_unknown_origin(world, bare):
    said = refused(world.train("diffusion", "x", f"init={bare}")[1:])
    assert f"by init={bare} the denoiser has weights of others" in said
    assert "no manifest beside it" in said and "Leave init= out" in said
    words = world.train("diffusion", "x", f"init={bare}", "from_scratch=false")[1:]
    assert check("train", words, config_dir=None) == 0
    assert (
        check(
            "train", world.train("diffusion", "x", f"init={world.diffusion}")[1:], config_dir=None
        )
        == 0
    )


def test_an_imported_text_encoder_and_autoencoder(world, ldm, bare, tmp_path):
    (bare / "README.md").write_text("---\nlicense: openrail\n---\nA model.\n")
    imported = tmp_path / "imported"
    assert ldm("import", f"from={bare}", f"run={imported}") == 0
    assert ldm("cache", f"autoencoder_run={imported}", f"text_run={imported}", "block=16",
               f"data.root={world.shards}", f"out={tmp_path / 'latents'}") == 0  # fmt: skip
    words = world.train("diffusion", "x", f"data.root={tmp_path / 'latents'}")[1:]
    said = refused(words)
    assert "data.root=" in said and "frozen" not in said and "the latent cache has weights" in said
    assert (
        f"imported from {bare}" in said and "licence openrail" in said and "Train your own" in said
    )
    own = world.train("autoencoder", "x", "perceptual=own", f"text_run={imported}")[1:]
    assert "by text_run=" in refused([*own, "loss.perceptual=1.0"])


def test_an_autoencoder_that_learned_by_lpips_far_down_the_road(world, tmp_path):
    road = tmp_path / "road"
    for name in ("autoencoder", "text_encoder", "latents", "shards"):
        shutil.copytree(getattr(world, name), road / name)
    bill = read_json(road / "autoencoder" / FILE)
    part = {"name": "vgg16", "role": "training: LPIPS", "licence": "BSD", "trained_on": "ImageNet"}
    write_json(
        road / "autoencoder" / FILE, bill | {"pretrained": [{**part, "for": ["autoencoder"]}]}
    )
    (road / "latents" / FILE).unlink()  # of an earlier version
    said = refused(world.train("diffusion", "x", f"data.root={road / 'latents'}")[1:])
    assert "the autoencoder learned by vgg16 (LPIPS; licence BSD; trained on ImageNet)" in said
