"""What a preparation leaves out: listed, counted by reason, and not more than is allowed."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from ldm.data.source import Bad
from ldm.manifest import atomic

FILE_NAME = "bad_samples.jsonl"
_NAMED = 3


def write_bad(directory: Path, bad: Iterable[Bad]) -> None:
    """List the records that were left out, one line each; no file where there are none."""
    write_lines(directory / FILE_NAME, (item._asdict() for item in bad))


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """A file of JSON lines, whole or absent; absent also where there are none."""
    path.unlink(missing_ok=True)
    remaining = iter(lines)
    for first in remaining:
        with atomic(path) as temporary, open(temporary, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in chain([first], remaining))


@dataclass
class Tally:
    """Running counts by reason of what is left out, so that none of it need be kept."""

    faults: Counter[str] = field(default_factory=Counter)  # unusable
    filtered: Counter[str] = field(default_factory=Counter)  # left out on request
    first: list[str] = field(default_factory=list)  # keys of the first unusable ones

    def add(self, bad: Iterable[Bad]) -> None:
        for item in bad:
            (self.filtered if item.is_filtered else self.faults)[item.reason] += 1
            if not item.is_filtered and len(self.first) < _NAMED:
                self.first.append(item.key)

    def total(self) -> int:
        return self.faults.total() + self.filtered.total()

    def require_few(
        self,
        listed: Iterable[Bad],
        directory: Path,
        *,
        seen: int,
        total: int | None,
        allowed: float,
    ) -> None:
        """ValueError where more than the share ``allowed`` of all ``total`` records is unusable.

        The records ``seen`` so far stand for all where the total is not known. All that is left
        out, ``listed``, is read only where it must be written down.
        """
        if self.faults.total() <= allowed * (seen if total is None else total):
            return
        write_bad(directory, listed)
        of = "" if total is None else f" (of {total})"
        raise ValueError(
            f"{self.faults.total()} of the first {seen} pictures{of} cannot be used: "
            f"{reasons(self.faults)}. The first: {', '.join(self.first)}; all so far in "
            f"{directory / FILE_NAME}. Mend or remove them, or allow more than "
            f"data.max_bad_fraction={allowed:g}; the same command then goes on."
        )


def reasons(counts: Counter[str]) -> str:
    """Counts by reason, most frequent first, for people."""
    return ", ".join(f"{count} x {reason}" for reason, count in counts.most_common())
