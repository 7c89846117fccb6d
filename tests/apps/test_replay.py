"""A step that is not finite, by the commands: skipped, kept, repeated and explained."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ldm.callbacks.metrics_log import read_jsonl
from ldm.manifest import read_json
from ldm.tasks.autoencoder import AutoencoderTask

CHECKOUT = Path(__file__).resolve().parents[2]
BAD = 5  # the sample whose latent is damaged


@pytest.fixture
def latents(world, tmp_path):
    """The world's latent cache with one number that is none."""
    for name in ("autoencoder", "text_encoder", "shards"):
        (tmp_path / name).symlink_to(getattr(world, name))
    shutil.copytree(world.latents, tmp_path / "latents")
    (file,) = (tmp_path / "latents").glob("*/codes.npy")
    codes = np.load(file)
    codes[BAD, 0, 0, 0, 0] = np.nan
    np.save(file, codes)
    return tmp_path / "latents"


def words(world, latents, run, *more):
    return ["train", *world.settings["diffusion"], f"data.root={latents}", f"run={run}", *more]


def content(run):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(run.rglob("*"))}


def test_a_damaged_latent_is_skipped_and_its_replay_names_it(world, ldm, latents, tmp_path, capsys):
    run = tmp_path / "run"
    assert ldm(*words(world, latents, run, "max_steps=16", "log_every=4")) == 0
    lines = [row for row in read_jsonl(run / "metrics.jsonl") if "skipped_steps" in row]
    # 64 samples in steps of 8: it comes once in eight steps
    assert sum(row["skipped_steps"] for row in lines) == 2
    assert all(np.isfinite(list(row.values())).all() for row in lines)
    first, second = sorted((run / "dumps").glob("*.json"))
    assert f"replay={first}" in capsys.readouterr().out
    kept = read_json(first)
    (sample,) = [s for s in kept["samples"] if s["position"] == BAD]
    assert sample["key"] == "00000005" and 0 <= sample["timestep"] < 1000
    assert sample["index"] // 8 == kept["step"] and kept["world_size"] == 1
    (checkpoint,) = first.with_suffix("").iterdir()  # retention has taken its other name
    assert checkpoint.stat().st_nlink in (1, 2) and kept["checkpoint_step"] <= kept["step"]
    before = content(run)
    for dump in (first, second):
        assert ldm("train", f"replay={dump}") == 0
        said = capsys.readouterr().out
        assert "not finite: denoiser.network.conv_in (Conv2d), which was given" in said
        assert 'nan: caption "' in said and 'key "00000005"' in said.split("nan: caption")[1]
    assert content(run) == before
    assert ldm("train", f"replay={first}", "colour=red") == 2
    assert "colour=red is no setting of the run" in capsys.readouterr().err
    assert ldm("train", f"replay={run}") == 2
    assert "is no dump" in capsys.readouterr().err


def test_skipping_on_ends_the_run_with_its_checkpoint(world, ldm, latents, tmp_path, capsys):
    run = tmp_path / "run"
    more = ("max_steps=8", "max_skipped_in_a_row=1", "checkpoint_every=1")
    assert ldm(*words(world, latents, run, *more)) == 2
    said = capsys.readouterr()
    assert "the last 1 steps were all skipped (max_skipped_in_a_row=1)" in said.err
    (dump,) = (run / "dumps").glob("*.json")
    assert str(dump) in said.out
    step = read_json(dump)["step"]
    newest = max((run / "checkpoints").glob("*.pt"))
    state = torch.load(newest, weights_only=True)
    assert abs(state["step"] - step) <= 1
    weights = state["trained"]["denoiser"]["network"].values()
    assert all(bool(value.isfinite().all()) for value in weights)


def test_the_autoencoders_step_is_repeated_too(world, ldm, tmp_path, monkeypatch, capsys):
    whole = AutoencoderTask.reconstruct

    def reconstruct(self, batch):
        reconstruction, code = whole(self, batch)
        hurt = (batch.index == 9).view(-1, 1, 1, 1)
        return torch.where(hurt, float("inf"), reconstruction), code

    monkeypatch.setattr(AutoencoderTask, "reconstruct", reconstruct)
    run = tmp_path / "run"
    assert ldm(*world.train("autoencoder", run)) == 0
    (dump,) = (run / "dumps").glob("*.json")
    found = read_json(dump)
    assert found["step"] == 2 and found["checkpoint_step"] == 2
    (sample,) = [s for s in found["samples"] if s["index"] == 9]
    capsys.readouterr()
    assert ldm("train", f"replay={dump}", "precision=32-true") == 0
    said = capsys.readouterr().out
    worst = said.split("not finite first:")[1].splitlines()[1]
    assert worst.startswith("  inf: ") and sample["key"] in worst
    assert "gradients that are not finite" in said


@pytest.mark.slow
def test_two_processes_skip_what_one_skips(world, ldm, latents, tmp_path):
    """The damaged latent is on one rank only, and both take the same decision."""
    more = ("precision=64-true", "max_steps=10")
    two = words(world, latents, tmp_path / "two", "trainer=ddp", "accelerator=cpu", "devices=2")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "ldm.apps.main", *two, *more]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("were skipped") == 1
    assert ldm(*words(world, latents, tmp_path / "one"), *more) == 0
    states, skipped = [], []
    for name in ("one", "two"):
        file = max((tmp_path / name / "checkpoints").glob("*.pt"))
        states.append(torch.load(file, weights_only=True)["trained"]["denoiser"])
        lines = read_jsonl(tmp_path / name / "metrics.jsonl")
        skipped.append([row["skipped_steps"] for row in lines if "skipped_steps" in row])
    assert skipped[0] == skipped[1] and sum(skipped[0]) in (1, 2)
    for part in ("network", "ema"):
        for name, value in states[0][part].items():
            torch.testing.assert_close(states[1][part][name], value, rtol=0.0, atol=1e-9)
    (one,), (both,) = ((tmp_path / n / "dumps").glob("*.json") for n in ("one", "two"))
    bad = [[s for s in read_json(d)["samples"] if s["position"] == BAD] for d in (one, both)]
    assert bad[0][0]["index"] == bad[1][0]["index"] and bad[0][0]["key"] == bad[1][0]["key"]
