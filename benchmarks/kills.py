"""A training run that is killed again and again, against the same run left in peace."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_leaves

from ldm.callbacks.checkpoint_file import found, read, step_of
from ldm.callbacks.metrics_log import OF_THE_MACHINE, read_jsonl

_WITHIN_SECONDS = 0.05  # a kill comes this long after its step at most: some steps and saves
_STARTING, _START_SECONDS = 0.1, 4.0  # the share of kills that come before the first step, and when


class Killed(NamedTuple):
    """How the kills of a run fell; steps lost are those that had to be done again."""

    kills: int
    in_a_save: int
    most_steps_lost: int


def train(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """The command in a process of its own, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ldm.apps.main", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def kill_often(words: Sequence[str], run: Path, *, max_steps: int, kills: int, seed: int) -> Killed:
    """Give the same command until it finishes, killed (SIGKILL) ``kills`` times on the way.

    Moments are spread over the run's steps, with a delay after the step; some come while the
    process starts. A save was hit where a temporary file is left.
    """
    draw = random.Random(seed)
    in_a_save = most_lost = 0
    for step in sorted(draw.sample(range(1, max_steps * 9 // 10), kills)):
        process = train(words)
        begun = _newest(run)
        if draw.random() < _STARTING:
            time.sleep(draw.uniform(0.0, _START_SECONDS))
        else:
            _await_step(run, max(step, begun + 1), process)
            time.sleep(draw.uniform(0.0, _WITHIN_SECONDS))
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise RuntimeError(f"the run ended by itself ({process.returncode}): more max_steps")
        in_a_save += any((run / "checkpoints").glob(".step_*.tmp"))
        most_lost = max(most_lost, _last_step(run) - _newest(run))
    if (code := train(words).wait()) != 0:
        raise RuntimeError(f"the run that was killed ended with {code}")
    return Killed(kills, in_a_save, most_lost)


def differences(one: Path, other: Path) -> Iterator[str]:
    """What of two finished runs is not the same bit for bit: state, average, logged numbers."""
    states = [read(found(run / "checkpoints")[-1]) for run in (one, other)]
    for state in states:
        state.pop("record", None)  # of who made it and when
    leaves = [tree_leaves(state) for state in states]
    if len(leaves[0]) != len(leaves[1]):
        yield "the checkpoints have different entries"
    elif not all(map(_same, *leaves)):
        yield "the checkpoints have different values"
    rows = [_rows(run) for run in (one, other)]
    if [row["step"] for row in rows[0]] != [row["step"] for row in rows[1]]:
        yield "metrics.jsonl has gaps or repeats"
    elif rows[0] != rows[1]:
        yield "metrics.jsonl has different numbers"
    if left := list(other.rglob("*.tmp")):
        yield f"{len(left)} temporary files are left"


def _same(one: object, other: object) -> bool:
    both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    return torch.equal(one, other) if both else one == other  # type: ignore[arg-type]


def _rows(run: Path) -> list[dict[str, float]]:
    rows = read_jsonl(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in rows]


def _newest(run: Path) -> int:
    paths = found(run / "checkpoints")
    return step_of(paths[-1]) if paths else 0


def _last_step(run: Path) -> int:
    """The step of the last whole line that was logged."""
    try:
        with open(run / "metrics.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().split(b"\n")
        return int(lines[-2].partition(b'"step": ')[2].partition(b",")[0])
    except (FileNotFoundError, IndexError, ValueError):
        return 0


def _await_step(run: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    while _last_step(run) < step:
        if process.poll() is not None:
            raise RuntimeError(f"the run ended by itself ({process.returncode}) before {step}")
        time.sleep(0.001)
