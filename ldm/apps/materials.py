"""`ldm materials`: the bill of materials of a model, as a table or as JSON."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.bill.bill import Bill, role
from ldm.apps.bill.made_of import bill_at
from ldm.manifest import write_json

_WIDEST = 44  # characters of a column


def materials(config: DictConfig) -> int:
    """Print the bill of ``model=``, and write it to ``out=`` if that is given."""
    bill = bill_at(config.model)
    for line in in_lines(config.model, bill):
        print(line)
    if config.out is not None:
        write_json(Path(config.out), bill.as_json())
        print(f"{config.out}: the same as JSON, with checksums in full")
    return 0


def in_lines(name: str, bill: Bill) -> Iterator[str]:
    """The bill as plain text."""
    yield f"{name}: " + verdict(bill)
    if bill.pretrained:
        yield "\nof others:"
        columns = ("role", "name", "sha256", "licence", "trained on", "for")
        yield from _table(columns, [row(part) for part in bill.pretrained])
    if bill.data:
        yield "\ndata:"
        columns = ("source", "pictures", "held out", "fingerprint", "licences", "for")
        yield from _table(columns, [data_row(entry) for entry in bill.data])


def verdict(bill: Bill) -> str:
    """Whether weights of others are in it, in words."""
    if bill.is_from_scratch:
        return "from scratch: no pretrained weight in the way of training"
    names = ", ".join(dict.fromkeys(str(part["name"]) for part in bill.in_training))
    return f"not from scratch: pretrained weights in the way of training ({names})"


def row(part: Mapping[str, Any]) -> tuple[str, ...]:
    """What a table shows of a pretrained part."""
    identity = str(part.get("sha256") or part.get("fingerprint") or "unknown")[:12]
    used = ", ".join(part["for"])
    return role(part), str(part["name"]), identity, part["licence"], part["trained_on"], used


def data_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What a table shows of data."""
    counts = (entry["num_samples"], entry["num_held_out"])
    shown = ("unknown" if count is None else f"{count:,}" for count in counts)
    licences = "; ".join(f"{count:,} {name}" for name, count in entry["licences"].items())
    used = ", ".join(entry["for"])
    return entry["source"], *shown, entry["fingerprint"], licences or "unknown", used


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as they need, up to a limit; beyond it a cell goes on in lines below."""
    cells = [[textwrap.wrap(str(cell), _WIDEST) or [""] for cell in row] for row in rows]
    table = [[[column] for column in columns], *cells]
    widths = [max(len(line) for row in table for line in row[i]) for i in range(len(columns))]
    for each in table:
        for i in range(max(map(len, each))):
            line = [cell[i] if i < len(cell) else "" for cell in each]
            padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
            yield "  " + "  ".join(padded).rstrip()
