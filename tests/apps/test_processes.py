"""Several processes of one command."""

import importlib
import time

import pytest

from ldm.apps.errors import UserError
from ldm.apps.processes import together

# In a module that other processes find: torch-fidelity brings a package `tests` of its own.
SHARES = """
import os, signal, time

def write(rank, folder):
    (folder / str(rank)).touch()

def refuse(rank, folder):
    if rank == 1:
        raise ValueError("a sentence for the user.")
    time.sleep(60)

def full(rank, folder):
    raise OSError(28, "No space left on device", "notes")

def die(rank, folder):
    if rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a function of ``SHARES`` in two processes; what their progress was."""
    (tmp_path / "shares_of_a_test.py").write_text(SHARES)
    monkeypatch.syspath_prepend(tmp_path)
    shares = importlib.import_module("shares_of_a_test")
    (tmp_path / "out").mkdir()

    def call(name):
        return list(
            together(
                getattr(shares, name),
                (tmp_path / "out",),
                device="cpu",
                count=2,
                progress=time.monotonic,
                preload="torch",
                fewer="fewer workers= or devices=",
            )
        )

    return call


def test_each_has_a_rank(run, tmp_path):
    seen = run("write")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0", "1"]
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    "share, sentence",
    [
        ("refuse", r"^a sentence for the user\.$"),
        ("full", r"no space left on the disk \(notes\)"),
        ("die", r"killed \(signal 9\), perhaps for want of memory: choose fewer workers= or dev"),
    ],
)
def test_the_first_failure_ends_them_all_and_is_told(share, sentence, run):
    with pytest.raises(UserError, match=sentence):
        run(share)
