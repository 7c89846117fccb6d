"""metrics.csv: a table of all logged numbers, a column for each name."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ldm.callbacks.loggers.backend import Picture, Run
from ldm.callbacks.rows import Row
from ldm.manifest import atomic


class Csv:
    """RUN/metrics.csv, the step in its first column; a number that a row lacks is left empty.

    It is written anew at each opening, so that it always holds what metrics.jsonl does.
    """

    rebuilt = True

    def require(self) -> None:
        """Nothing is needed."""

    def open(self, run: Run, held: int | None, rewound_from: int | None) -> str:
        self._path = run.directory / "metrics.csv"
        self._columns: list[str] = []
        return ""

    def write(self, rows: Sequence[Row]) -> None:
        names = dict.fromkeys(name for row in rows for name in row)
        new = [name for name in names if name not in self._columns]
        if not new:
            with open(self._path, "a", newline="") as file:
                self._write(file, rows)
            return
        earlier = self._earlier() if self._columns else iter(())
        self._columns += new
        with atomic(self._path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerow(self._columns)
            self._write(file, earlier)
            self._write(file, rows)

    def _earlier(self) -> Iterator[Row]:
        with open(self._path, newline="") as file:
            yield from csv.DictReader(file)

    def _write(self, file: Any, rows: Iterable[Row]) -> None:
        csv.DictWriter(file, self._columns, restval="").writerows(rows)

    def show(self, picture: Picture) -> None:
        """A table has no pictures."""

    def close(self, *, failed: bool) -> None:
        """Each row is in the file already."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""
