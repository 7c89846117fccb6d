"""metrics.jsonl: one JSON object per line, {"step": ..., name: value, ...}; the local truth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ldm.manifest import atomic

FILE = "metrics.jsonl"  # in the directory of a training run
Row = dict[str, Any]


def read_jsonl(path: str | Path) -> list[Row]:
    """The rows of a file of JSON lines; none if it does not exist."""
    return rows_after(path, 0)[0]


def rows_after(path: str | Path, offset: int, until: int | None = None) -> tuple[list[Row], int]:
    """The rows from byte ``offset`` on, ``until`` another, and the byte after the last whole line.

    What is no whole row is left out: a killed process leaves a half line, a machine that lost its
    power bytes that were never written.
    """
    path = Path(path)
    if not path.is_file():
        return [], offset
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(-1 if until is None else until - offset)
    end = data.rfind(b"\n") + 1
    found = (_row(line) for line in data[:end].decode(errors="replace").splitlines())
    return [row for row in found if row is not None], offset + end


def _row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


class Rows:
    """The file of a run that goes on at ``start_step``: rows beyond it are dropped when it opens.

    A resumed run writes those again. Where rows cannot be written (a full disk), that is said once,
    and they are kept until they can.
    """

    def __init__(self, path: str | Path, *, start_step: int) -> None:
        self.path = Path(path)
        self.start_step = start_step
        self._is_open, self._fails = False, False
        self._waiting = ""

    def open(self) -> bool:
        """Drop the rows beyond, once; whether that is done."""
        return self._is_open or self._succeeds(self._open)

    def append(self, row: Row) -> bool:
        """Write a row, after those that wait; whether all are in the file now."""
        self._waiting += json.dumps(row) + "\n"
        return self.open() and self._succeeds(self._write)

    def _succeeds(self, write: Callable[[], None]) -> bool:
        try:
            write()
        except OSError as error:
            if not self._fails:
                print(
                    f"could not write {self.path} ({error.strerror}). Training goes on, and its "
                    "lines are kept until they can be written.",
                    flush=True,
                )
            self._fails = True
            return False
        self._fails = False
        return True

    def _open(self) -> None:
        kept = [row for row in read_jsonl(self.path) if row["step"] <= self.start_step]
        with atomic(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._is_open = True

    def _write(self) -> None:
        _append(self.path, self._waiting)
        self._waiting = ""


def _append(path: Path, text: str) -> None:
    """All of ``text`` at the end of a file, or nothing of it."""
    with open(path, "ab", buffering=0) as file:
        size, data = file.tell(), text.encode()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(size)
            raise
