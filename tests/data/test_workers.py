"""Loader processes: deaf to what asks the run to stop, and gone with it, however it goes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ldm.data.workers import STOP_SIGNALS

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, signal, sys
from torch.utils.data import DataLoader
from ldm.data.workers import CONTEXT, begin, start_server

class Numbers:
    def __len__(self): return 200
    def __getitem__(self, i): return os.getpid(), os.getppid(), i

if __name__ == "__main__":
    start_server()
    loader = iter(DataLoader(Numbers(), batch_size=None, num_workers=2, worker_init_fn=begin,
                             multiprocessing_context=CONTEXT))
    first = next(loader)
    for name in sys.argv[1:]:
        for process in first[:2]:  # the worker, and the server it was forked from
            os.kill(process, signal.Signals[name])
    print(*first[:2], flush=True)
    if sys.stdin.readline() == "fail\\n":
        raise RuntimeError("with the loader in the frames of this error")
    print(1 + sum(1 for _ in loader), flush=True)
"""


@pytest.fixture
def loading(tmp_path):
    """A process that loads with two others; their numbers are its first line."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = []

    def start(*signals):
        process = subprocess.Popen(
            [sys.executable, str(script), *signals], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        )  # fmt: skip
        started.append(process)
        return process, [int(n) for n in process.stdout.readline().split()]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_every_sample_comes_after_every_signal(loading):
    process, _ = loading(*STOP_SIGNALS, "SIGINT")
    said, _ = process.communicate("\n", timeout=60)
    assert process.returncode == 0 and said.strip() == "200"


@pytest.mark.slow
def test_an_error_does_not_wait_for_them(loading):
    process, others = loading()
    process.communicate("fail\n", timeout=60)
    assert process.returncode == 1 and not _lives(others[0])


@pytest.mark.slow
def test_they_end_with_a_parent_that_is_killed(loading):
    process, others = loading()
    process.kill()
    process.wait()
    until = time.monotonic() + 30.0
    while others and time.monotonic() < until:
        others = [number for number in others if _lives(number)]
        time.sleep(0.05)  # until they are gone
    assert not others


def _lives(number: int) -> bool:
    """Whether a process is there and no mere entry of one that has ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
