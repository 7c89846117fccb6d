"""What a run says at its end reaches its manifest, its report, and the command that uses it."""

import json

from ldm.apps.closing import said
from ldm.callbacks.metrics_log import read_jsonl
from ldm.manifest import read_manifest


def test_a_cache_repeats_that_its_autoencoder_is_not_ready_and_goes_on(
    world, ldm, tmp_path, capsys
):
    (first, *_) = doubts = read_manifest(world.autoencoder).facts["not_ready_because"]
    assert "below 20 dB" in first and len(doubts) == 2  # and the ramp of its GAN is not over

    def cache(run, out):
        inputs = (f"autoencoder_run={run}", f"text_run={world.text_encoder}")
        return ldm("cache", *inputs, f"data.root={world.shards}", f"out={out}", "block=16")

    assert cache(world.autoencoder, tmp_path) == 0
    found = capsys.readouterr().out
    assert f"{world.autoencoder} is not ready for stage 2 because {'; '.join(doubts)}" in found
    assert (tmp_path / "manifest.json").is_file()
    # A model without a run has no verdict, and nothing is said.
    assert cache(world.diffusion, tmp_path / "other") == 0
    assert "stage 2" not in capsys.readouterr().out


def test_a_run_keeps_and_shows_what_it_found(world):
    (*_, last) = (row for row in read_jsonl(world.diffusion / "metrics.jsonl") if "val/loss" in row)
    assert {f"val/linear_loss_bin_{i}" for i in range(8)} <= last.keys()
    assert last["val/zero_loss"] == 1.0 and 0.2 < last["val/linear_loss"] < 0.5
    (*_, last) = (
        row for row in read_jsonl(world.autoencoder / "metrics.jsonl") if "val/psnr" in row
    )
    assert last["val/dead_channels"] == 0.0 and last["val/fits_half"] == 1.0
    config = json.loads((world.autoencoder / "model" / "vae" / "config.json").read_text())
    assert config["force_upcast"] is False
    for stage, words in (("autoencoder", "Not ready for stage 2"), ("diffusion", "Held-out loss")):
        page = (world.root / stage / "report.html").read_text()
        assert words in page
    assert said("val/psnr") and not said("val/latent_std_0")
