"""Two metrics files number by number: their difference, or why there is none to speak of."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ldm.apps.errors import UserError
from ldm.manifest import read_json
from ldm.metrics.protocol import JUDGED, unlike

Records = Mapping[str, Mapping[str, Any]]
_VERSIONS = "versions."


def files_of(value: str, others: Sequence[str]) -> list[Path]:
    """The files of compare=[A,B]; UserError for more, for less, and for other words beside it."""
    files = [Path(name.strip(" '\"")).expanduser() for name in value.strip("[]").split(",")]
    if len(files) != 2 or others:
        raise UserError(
            "`ldm evaluate compare=[A.json,B.json]` takes two metrics files and nothing else; "
            f"given are {len(files)} and {' '.join(others) or 'no other word'}."
        )
    return files


def compare(files: Sequence[str | Path]) -> int:
    """Print the table of two files; 0."""
    first, second = (_records(Path(file)) for file in files)
    rows = [("", "A", "B", "B - A")]
    judged: dict[str, str] = {}
    for here, there in _pairs(first, second):
        name = here if here == there else " | ".join(filter(None, (here, there)))
        a, b = first.get(here or ""), second.get(there or "")
        rows.append((name or "", _value(a), _value(b), _verdict(a, b)))
        if a and b:
            judged |= _shown({k: v for k, v in unlike(a, b).items() if k in JUDGED})
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print(f"A  {files[0]}\nB  {files[1]}")
    if judged:
        print(f"judged (A | B): {'; '.join(judged.values())}")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        print("  ".join((*cells, row[3])).rstrip())
    return 0


def _records(file: Path) -> Records:
    found = read_json(file)
    if not isinstance(found, dict) or not all(
        isinstance(entry, dict) and {"value", "protocol"} <= entry.keys()
        for entry in found.values()
    ):
        raise UserError(f"{file} is no metrics file of `ldm evaluate`.")
    return found


def _pairs(first: Records, second: Records) -> Iterator[tuple[str | None, str | None]]:
    """Names of both side by side; FID-256 and FID-1024 are two, but stand in one row."""
    left = [name for name in second if name not in first]
    for name in first:
        alike = [name] if name in second else [n for n in left if _stem(n) == _stem(name)]
        left = [other for other in left if other not in alike[:1]]
        yield name, next(iter(alike), None)
    yield from ((None, name) for name in left)


def _stem(name: str) -> str:
    """The name without the number of samples that a Frechet distance carries."""
    return re.sub(r"-\d+$", "", name)


def _value(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "-"
    return f"{record['value']:.6g}" + ("" if record.get("valid", True) else " (not valid)")


def _verdict(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> str:
    """The difference with its remark, or why these two are not comparable."""
    if a is None or b is None:
        return f"only in {'A' if b is None else 'B'}"
    invalid = [
        f"{side} is not valid: {record.get('why', 'no reason is recorded')}"
        for side, record in (("A", a), ("B", b))
        if not record.get("valid", True)
    ]
    found = {key: values for key, values in unlike(a, b).items() if key not in JUDGED}
    others = {key: values for key, values in found.items() if not key.startswith(_VERSIONS)}
    if invalid or others:
        return f"not comparable: {'; '.join((*invalid, *_shown(others).values()))}"
    versions = ", ".join(text.removeprefix(_VERSIONS) for text in _shown(found).values())
    remark = f"   (by other versions: {versions})" if versions else ""
    return f"{b['value'] - a['value']:+.4g}{remark}"


def _shown(found: Mapping[str, tuple[Any, Any]]) -> dict[str, str]:
    """Each key with both of its values, as in "steps 20 | 50"."""
    return {
        key: f"{key} {' | '.join(textwrap.shorten(str(v), 40) or 'none' for v in values)}"
        for key, values in found.items()
    }
