"""Two processes train the model that one trains: weights, averages, logged losses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ldm.callbacks.metrics_log import read_jsonl

CHECKOUT = Path(__file__).resolve().parents[2]
TWO = ["trainer=ddp", "accelerator=cpu", "devices=2"]


def train(words: list[str]) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-m", "ldm.apps.main", *words],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def state(run: Path, step: int = 4) -> dict[str, torch.Tensor]:
    """Weights and averages of a run's last checkpoint, in full precision."""
    file = run / "checkpoints" / f"step_{step:09d}.pt"
    saved = torch.load(file, weights_only=True)
    return {
        f"{name}.{part}.{key}": value
        for name, trained in saved["trained"].items()
        for part in ("network", "ema")
        for key, value in (trained[part] or {}).items()
    }


def compare(world, ldm, tmp_path, stage, *more):
    # discriminator and averages on; batches that are powers of two, so that means are exact
    more = ("precision=64-true", *more)
    said = train([*world.train(stage, tmp_path / "two", *TWO), *more])
    assert "2 process(es)" in said and said.count("finished at step 4") == 1
    assert ldm(*world.train(stage, tmp_path / "one"), *more) == 0
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert one.keys() == two.keys()
    gaps = {name: float((two[name] - value).abs().max()) for name, value in one.items()}
    assert max(gaps.values()) < 1e-9, sorted(gaps.items(), key=lambda gap: -gap[1])[:5]
    rows = [read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for first, second in zip(*rows, strict=True):
        assert first.keys() == second.keys()
        for key in first.keys() - {"images_per_second", "data_wait_fraction"}:
            assert second[key] == pytest.approx(first[key], rel=1e-4, abs=1e-6), key


def test_diffusion_on_two_processes_with_accumulation(world, ldm, tmp_path):
    compare(world, ldm, tmp_path, "diffusion", "micro_batch=2")


@pytest.mark.slow
def test_autoencoder_with_its_discriminator_on_two_processes(world, ldm, tmp_path):
    compare(world, ldm, tmp_path, "autoencoder", "discriminator.norm=group")


@pytest.mark.slow
def test_text_encoder_on_two_processes(world, ldm, tmp_path):
    compare(world, ldm, tmp_path, "text_encoder")


@pytest.mark.slow
def test_from_two_processes_to_one_in_the_middle(world, ldm, tmp_path):
    """The same command with another number of processes goes on with the same stream."""
    more = ("precision=64-true", "learning_rate=constant")
    train([*world.train("diffusion", tmp_path / "run", *TWO), *more, "max_steps=2"])
    assert ldm(*world.train("diffusion", tmp_path / "run"), *more) == 0
    assert ldm(*world.train("diffusion", tmp_path / "one"), *more) == 0
    one, mixed = state(tmp_path / "one"), state(tmp_path / "run")
    for name, value in one.items():
        torch.testing.assert_close(mixed[name], value, rtol=0.0, atol=1e-9, msg=name)


@pytest.mark.slow
def test_autoencoder_with_a_codebook_on_two_processes(world, ldm, tmp_path):
    """Usage is counted, and dead codes begin anew, over the global batch of both processes."""
    codebook = ("regularizer=vq", "regularizer.num_codes=64", "regularizer.restart_rate=0.5")
    # Without the adversarial term, whose adaptive weight is each micro-batch's own.
    compare(world, ldm, tmp_path, "autoencoder", "micro_batch=1", "loss.gan_start=99", *codebook)
