"""A program is kept up with metrics.jsonl, and nothing that happens to it stops the run."""

import json
import threading

import pytest

from ldm.callbacks.loggers import follower as module
from ldm.callbacks.loggers.backend import Picture, Run
from ldm.callbacks.loggers.follower import Follower
from ldm.callbacks.rows import Rows


class Notebook:
    """A backend that keeps what it is given over sittings, and fails in ``fails``."""

    def __init__(self, *, rebuilt=False):
        self.rebuilt, self.fails = rebuilt, set()
        self.rows, self.pictures, self.openings, self.closings = [], [], [], []
        self.failed = threading.Event()

    def _act(self, what):
        if what in self.fails:
            self.failed.set()
            raise ConnectionError(f"no network to {what}\nmore")

    def require(self):
        pass

    def open(self, run, held, rewound_from):
        self.openings.append((held, rewound_from))
        self._act("open")
        if self.rebuilt:
            self.rows.clear()
        return "here it is"

    def write(self, rows):
        self._act("write")
        self.rows += rows

    def show(self, picture):
        self._act("show")
        self.pictures.append((picture.name, picture.step, tuple(picture.captions)))

    def close(self, *, failed):
        self.closings.append(failed)
        self._act("close")

    def state_dict(self):
        return {"id": "abc"}

    def load_state_dict(self, state):
        assert state == {"id": "abc"}


class Sitting:
    """A run's log with one program that follows it."""

    def __init__(self, directory, backend, *, start=0, captions=()):
        self.rows = Rows(directory / "metrics.jsonl", start_step=start)
        run = Run(directory, {})
        self.follower = Follower("book", backend, run, start_step=start, captions=captions)
        assert self.rows.open()
        self.follower.start()

    def log(self, *steps, **more):
        for step in steps:
            assert self.rows.append({"step": step} | more)
            self.follower.wake()

    def end(self, failed=False):
        self.follower.finish(failed=failed)
        assert not self.follower._thread.is_alive()


def steps(backend):
    return [row["step"] for row in backend.rows]


@pytest.fixture
def at_once(monkeypatch):
    """What failed is tried again with the next row."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)


def test_rows_arrive_in_order_and_how_far_is_noted(tmp_path, capsys):
    book = Notebook()
    sitting = Sitting(tmp_path, book)
    assert "here it is" in capsys.readouterr().out  # before training begins
    sitting.log(20, 40)
    sitting.end()
    assert steps(book) == [20, 40] and book.openings == [(None, None)] and book.closings == [False]
    note = json.loads((tmp_path / "loggers" / "book.json").read_text())
    assert note == {"step": 40, "rows": 2, "id": "abc"}


def test_a_resumed_run_goes_on_without_loss_or_doubles(tmp_path):
    book = Notebook()
    for start, logged in ((0, [20, 40]), (40, [60, 80])):
        sitting = Sitting(tmp_path, book, start=start)
        sitting.log(*logged)
        sitting.end()
    assert steps(book) == [20, 40, 60, 80]
    assert book.openings == [(None, None), (40, None)]


def test_going_back_to_an_older_checkpoint_drops_nothing_and_is_marked(tmp_path):
    book = Notebook()
    first = Sitting(tmp_path, book)
    first.log(20, 40, 60)
    first.end()
    second = Sitting(tmp_path, book, start=20)
    second.log(20, **{"val/fid": 1.0})  # an evaluation of that step, which was under way
    second.log(40, 60)
    second.end()
    assert book.openings[1] == (20, 60)
    assert steps(book) == [20, 40, 60, 20, 40, 60]


def test_what_was_not_brought_before_a_kill_is_brought_by_the_next_sitting(tmp_path):
    book = Notebook()
    first = Sitting(tmp_path, book)
    first.log(20)
    first.end()
    for step in (40, 60):  # in the file, but the process died
        first.rows.append({"step": step})
    second = Sitting(tmp_path, book, start=60)
    second.end()
    assert steps(book) == [20, 40, 60] and book.openings[1] == (20, None)


def test_of_the_rows_of_one_step_those_are_brought_that_were_not(tmp_path):
    """Training and validation log the same step; a kill comes in between."""
    book = Notebook()
    first = Sitting(tmp_path, book)
    first.log(20)
    first.log(20, **{"val/loss": 1.0})
    first.log(40)
    first.end()
    first.rows.append({"step": 40, "val/loss": 2.0})  # in the file, but the process died
    for _ in range(2):
        second = Sitting(tmp_path, book, start=40)
        second.end()
    assert steps(book) == [20, 20, 40, 40]
    assert [row.get("val/loss") for row in book.rows] == [None, 1.0, None, 2.0]


def test_one_that_joins_late_is_brought_what_there_is(tmp_path):
    rows = Rows(tmp_path / "metrics.jsonl", start_step=0)
    for step in (20, 40, 60):
        rows.append({"step": step})
    for name in ("samples/step_000000020.png", "samples/latents/step_000000040.png",
                 "samples/step_000000060.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    book = Notebook()
    sitting = Sitting(tmp_path, book, start=40, captions=["a red circle"])
    sitting.end()
    assert steps(book) == [20, 40]
    assert book.pictures == [("samples/latents", 40, ()), ("samples", 20, ("a red circle",))]


def test_one_that_is_rebuilt_is_brought_everything_each_time(tmp_path):
    book = Notebook(rebuilt=True)
    for start, logged in ((0, [20, 40]), (20, [40])):
        sitting = Sitting(tmp_path, book, start=start)
        sitting.log(*logged)
        sitting.end()
    assert steps(book) == [20, 40] and book.openings == [(None, None)] * 2


@pytest.mark.parametrize("where", ["open", "write", "show"])
@pytest.mark.parametrize("rebuilt", [True, False])
def test_a_failure_is_said_once_and_what_was_missed_comes_later(
    tmp_path, capsys, at_once, where, rebuilt
):
    book = Notebook(rebuilt=rebuilt)
    book.fails = {where}
    sitting = Sitting(tmp_path, book)
    picture = Picture("samples", 20, tmp_path / "x.png")
    sitting.log(20)
    sitting.follower.show(picture)
    sitting.log(40)
    assert book.failed.wait(60.0)
    book.fails = set()
    sitting.log(60)
    sitting.end()
    assert steps(book) == [20, 40, 60]
    out = capsys.readouterr().out
    assert out.count("ConnectionError: no network") == 1 and "Training goes on" in out
    assert f"ldm logs replay run={tmp_path} logger=book" in out
    assert out.count("works again") == 1


def test_one_that_never_works_is_said_once_and_ends_with_the_run(tmp_path, capsys, at_once):
    book = Notebook()
    book.fails = {"open", "close"}
    sitting = Sitting(tmp_path, book)
    sitting.log(*range(20, 200, 20))
    sitting.end(failed=True)
    assert book.rows == [] and capsys.readouterr().out.count("ConnectionError") == 1


def test_a_failing_end_is_said(tmp_path, capsys):
    book = Notebook()
    book.fails = {"close"}
    sitting = Sitting(tmp_path, book)
    sitting.end()
    assert "could not be closed (ConnectionError" in capsys.readouterr().out


def test_one_that_hangs_keeps_neither_training_nor_its_end(tmp_path, capsys, monkeypatch):
    for name in ("OPENING_SECONDS", "CLOSING_SECONDS"):
        monkeypatch.setattr(module, name, 0.05)
    free, book = threading.Event(), Notebook()
    monkeypatch.setattr(book, "open", lambda *given: free.wait() and "")
    sitting = Sitting(tmp_path, book)
    sitting.log(20)
    sitting.follower.finish(failed=False)
    out = capsys.readouterr().out
    assert "book: not open after 0.05 s" in out and "not done 0.05 s after training" in out
    free.set()
    sitting.follower._thread.join()


def test_rows_of_validation_have_the_images_seen_of_their_step(tmp_path):
    book = Notebook()
    sitting = Sitting(tmp_path, book)
    sitting.log(20, images_seen=160)
    sitting.log(20, **{"val/loss": 0.5})
    sitting.log(15, **{"val/fid": 3.0})
    sitting.end()
    assert [row.get("images_seen") for row in book.rows] == [160, 160, None]
