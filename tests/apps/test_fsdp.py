"""`strategy=fsdp` by the real command: the files of one process, and on to other strategies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._pytree import keystr, tree_flatten_with_path

CHECKOUT = Path(__file__).resolve().parents[2]
TWO = ["trainer=ddp", "accelerator=cpu", "devices=2"]
SAME = [
    "precision=64-true", "optimizer=adamw", "learning_rate=constant", "channels_last=false",
    "micro_batch=2", "max_steps=10", "checkpoint_every=5", "validate_every=5",
]  # fmt: skip


def train(words: list[str]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-m", "ldm.apps.main", *words],
        capture_output=True, text=True, env=environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def saved(file):
    """A checkpoint, but who made it and when."""
    found = torch.load(file, weights_only=True)
    del found["record"]
    return found


@pytest.mark.slow
def test_one_run_through_all_strategies(world, tmp_path):
    """Four steps shared out, three on one process, three with whole copies: as one process."""
    one, run = tmp_path / "one", tmp_path / "run"
    train([*world.train("diffusion", one), *SAME])
    for strategy in (
        [*TWO, "strategy=fsdp", "activation_checkpointing=true", "max_steps=4"],
        ["max_steps=7"],
        [*TWO, "strategy=ddp"],
    ):
        train([*world.train("diffusion", run), *SAME, *strategy])
    name = Path("checkpoints") / "step_000000010.pt"
    found, wanted = (
        {keystr(path): value for path, value in tree_flatten_with_path(saved(folder / name))[0]}
        for folder in (run, one)
    )
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[path], value, rtol=0.0, atol=1e-9)


@pytest.mark.slow
def test_the_model_and_pictures_of_a_run_that_was_shared_out(world, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train([*world.train("diffusion", one), *SAME])
    train([*world.train("diffusion", two), *SAME, *TWO, "strategy=fsdp"])
    file = Path("model") / "unet" / "diffusion_pytorch_model.safetensors"
    (found, wanted) = (load_file(folder / file) for folder in (two, one))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0.0, atol=1e-7)
    picture = Path("samples") / "step_000000005.png"
    assert (two / picture).read_bytes() == (one / picture).read_bytes()
