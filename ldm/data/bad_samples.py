"""What a preparation leaves out: listed, counted by reason, and not more than is allowed."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ldm.data.source import Bad
from ldm.manifest import atomic

FILE_NAME = "bad_samples.jsonl"


def write_bad(directory: Path, bad: Sequence[Bad]) -> None:
    """List the records that were left out, one line each; no file where there are none."""
    write_lines(directory / FILE_NAME, [item._asdict() for item in bad])


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """A file of JSON lines, whole or absent; absent also where there are none."""
    texts = [json.dumps(line) for line in lines]
    path.unlink(missing_ok=True)
    if texts:
        with atomic(path) as temporary:
            temporary.write_text("\n".join(texts) + "\n")


def counts(bad: Iterable[Bad], is_filtered: bool) -> dict[str, int]:
    """How many by reason: of those filtered on request, or of those unusable."""
    found = Counter(item.reason for item in bad if item.is_filtered == is_filtered)
    return dict(sorted(found.items()))


def reasons(bad: Iterable[Bad]) -> str:
    """The counts by reason, most frequent first, for people."""
    found = Counter(item.reason for item in bad)
    return ", ".join(f"{count} x {reason}" for reason, count in found.most_common())


def require_few(
    bad: Sequence[Bad], directory: Path, *, seen: int, total: int | None, allowed: float
) -> None:
    """ValueError where more than the share ``allowed`` of all ``total`` records is unusable.

    The records ``seen`` so far stand for all where the total is not known.
    """
    faults = [item for item in bad if not item.is_filtered]
    if len(faults) <= allowed * (seen if total is None else total):
        return
    write_bad(directory, bad)
    of = "" if total is None else f" (of {total})"
    first = ", ".join(item.key for item in faults[:3])
    raise ValueError(
        f"{len(faults)} of the first {seen} pictures{of} cannot be used: {reasons(faults)}. "
        f"The first: {first}; all so far in {directory / FILE_NAME}. Mend or remove them, or "
        f"allow more than data.max_bad_fraction={allowed:g}; the same command then goes on."
    )
