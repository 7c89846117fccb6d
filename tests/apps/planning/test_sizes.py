"""Bytes on the disk, against files that training and caching have written."""

import pytest

from ldm.apps.compose import compose
from ldm.apps.planning.estimate import estimate


def bytes_under(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("stage", "part"),
    [("text_encoder", "text_encoder"), ("autoencoder", "vae"), ("diffusion", "unet")],
)
def test_checkpoints_and_models_are_as_large_as_said(world, stage, part):
    root = world.latents if stage == "diffusion" else world.shards
    config = compose("train", [*world.settings[stage], f"data.root={root}"])
    found = estimate(config, experiment=f"demo_{stage}")
    files = sorted((getattr(world, stage) / "checkpoints").glob("*.pt"))
    # Beside the numbers there are their names and counters, some kB of each tensor.
    real = files[-1].stat().st_size
    assert 0.7 * real < found.checkpoint_bytes < real
    model = getattr(world, stage) / "model" / part
    assert 0.7 * bytes_under(model) < found.model_bytes["trained"] < bytes_under(model)


def test_a_latent_cache_is_as_large_as_said(world):
    config = compose("train", [*world.settings["diffusion"], f"data.root={world.latents}"])
    found = estimate(config, experiment="demo_diffusion")
    arrays = sum(f.stat().st_size for f in world.latents.glob("32x32/*.npy"))
    headers = 128 * len(list(world.latents.glob("32x32/*.npy")))
    each = found.cache_bytes_per_image["ids"]
    assert 64 * each == pytest.approx(arrays - headers, abs=64)


def test_text_features_take_more_than_their_ids():
    config = compose("train", ["experiment=demo_diffusion", "data.root=DATA"])
    found = estimate(config, experiment="demo_diffusion").cache_bytes_per_image
    assert found["features"] - found["ids"] == 20 * 64 * 2  # states of 20 tokens, fp16
