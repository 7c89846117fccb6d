"""The first cause: first writer wins, all say the same, codes are those of one process."""

import json
from types import SimpleNamespace

import pytest

from ldm.apps.first_cause import FirstCause


def on_ranks(path, count=3):
    """The callbacks of a run, as on as many ranks, each with what it is called with."""
    found = []
    for rank in range(count):
        cause = FirstCause(path, finish=lambda: None)
        cause._rank = rank
        cause._leaving.set()  # no thread is to end this process
        found.append(cause)
    return found


def fail(cause, error, step=7):
    trainer, task = SimpleNamespace(world_size=3), SimpleNamespace(step=step)
    try:
        raise error
    except type(error) as caught:
        cause.on_exception(trainer, task, caught)


def told(cause, error, capsys, monkeypatch):
    monkeypatch.setattr("ldm.apps.first_cause._OTHERS_SECONDS", 0.0)
    return cause.tell(error), capsys.readouterr().err


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1")


@pytest.mark.parametrize(
    "error, code, said",
    [
        (ValueError("this is wrong; type that."), 2, "this is wrong; type that."),
        (KeyError("a bug"), 1, "KeyError: 'a bug'"),
        (OSError(28, "No space left on device", "F"), 2, "no space left on the disk (F)."),
        (LOST, 1, "lost another process, which ended without a word"),
    ],
)
def test_who_fails_first_is_told_by_itself_and_rank_0(
    tmp_path, capsys, monkeypatch, error, code, said
):
    first, second, third = on_ranks(tmp_path / "failure.json")
    fail(second, error)
    fail(first, LOST)
    fail(third, ValueError("another"))
    line = f"ldm: rank 1, step 7: {said}"
    assert said in json.loads(first.path.read_text())["text"]
    found, err = told(first, LOST, capsys, monkeypatch)
    assert found == code and err.startswith(line) and err.count("\n") == 1
    found, err = told(second, error, capsys, monkeypatch)
    assert found == code and err.splitlines()[-1].startswith(line)
    assert ("Traceback" in err) == (code == 1)
    assert told(third, ValueError("another"), capsys, monkeypatch) == (code, "")


def test_an_interruption_is_no_failure(tmp_path):
    (cause, *_) = on_ranks(tmp_path / "failure.json")
    fail(cause, KeyboardInterrupt())
    assert not cause.path.exists()


def test_where_it_cannot_be_written_each_says_its_own(tmp_path):
    (cause, *_) = on_ranks(tmp_path / "gone" / "failure.json")
    error = OSError(30, "Read-only file system")
    fail(cause, error)
    with pytest.raises(OSError, match="Read-only"):
        cause.tell(error)


def test_torchrun_shows_it_too(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    (cause, *_) = on_ranks(tmp_path / "failure.json")
    fail(cause, KeyError("a bug"))
    assert (
        "rank 0, step 7: KeyError: 'a bug'"
        in json.loads((tmp_path / "error.json").read_text())["message"]["message"]
    )
