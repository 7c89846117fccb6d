"""Trouble on one of two ranks: nobody hangs, and the first cause is what is read last."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ldm.callbacks.metrics_log import read_jsonl

CHECKOUT = Path(__file__).resolve().parents[2]
OWN = [sys.executable]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
pytestmark = pytest.mark.slow


def run(world, run_directory, trouble, rank, *more, launcher=OWN, seconds="0"):
    """Two ranks of stage diffusion with a trouble: exit code, what was said, when it ended."""
    words = world.train(
        "diffusion", run_directory, "trainer=ddp", "accelerator=cpu", "devices=2",
        "precision=32-true", "validate_every=2", "checkpoint_every=4", *more,
    )  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT), "TROUBLE": trouble,
        "TROUBLED_RANK": str(rank), "TROUBLE_SECONDS": seconds,
    }  # fmt: skip
    done = subprocess.run(
        [*launcher, str(CHECKOUT / "tests" / "apps" / "troubled.py"), *words],
        stderr=subprocess.PIPE, text=True, env=environment, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stderr, time.time()


@pytest.mark.parametrize(
    "trouble, rank, code, said",
    [
        ("step", 1, 1, "rank 1, step 2: KeyError: 'a bug'"),
        ("step", 0, 1, "rank 0, step 2: KeyError: 'a bug'"),
        ("step, others busy", 1, 1, "rank 1, step 2: KeyError: 'a bug'"),
        ("step, killed", 1, 1, "rank 0, step 2: lost another process"),
        ("grid", 1, 1, "rank 1, step 2: KeyError: 'a bug'"),
        ("data", 1, 2, "rank 1, step 2: this record is wrong; mend it."),
    ],
)
@pytest.mark.parametrize("launcher", [OWN, TORCHRUN], ids=["own", "torchrun"])
def test_all_end_at_once_with_the_first_cause(world, tmp_path, trouble, rank, code, said, launcher):
    found, stderr, end = run(world, tmp_path / "run", trouble, rank, launcher=launcher)
    begin = float(re.findall(r"^trouble at (\S+)", stderr, re.MULTILINE)[0])
    assert end - begin < 30.0, stderr  # a timeout would be 1800
    lines = [line for line in stderr.splitlines() if "rank" in line and "step 2" in line]
    assert lines and said in lines[-1], stderr
    if launcher == OWN:
        assert found == code and stderr.splitlines()[-1].startswith(f"ldm: {said}"), stderr
    assert found != 0
    if code == 2:  # a mistake is a sentence
        assert "Traceback" not in stderr.partition(f"ldm: {said}")[0], stderr


def test_drawing_may_take_longer_than_any_collective(world, tmp_path):
    more = ("collective_timeout_seconds=5", "max_steps=4")
    code, stderr, _ = run(world, tmp_path / "run", "grid, slow", 1, *more, seconds="20")
    assert code == 0, stderr
    assert [row["step"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")][-1] == 4
