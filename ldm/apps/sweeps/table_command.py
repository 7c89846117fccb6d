"""`ldm sweep table DIR`: varied settings against numbers, also while the sweep is running."""

from collections.abc import Sequence
from pathlib import Path

from ldm.apps.errors import UserError, suggestion
from ldm.apps.report.sweep import plain, write_sweep
from ldm.apps.report.sweep_rows import SWEEP, read_sweep


def sweep_command(words: Sequence[str]) -> int:
    """Write table.csv, table.md and index.html into a sweep's directory, and print the table."""
    known = ("table",)
    if not words or words[0] not in known:
        found = f"{words[0]!r} is not one of its commands. " if words else ""
        hint = suggestion(words[0], known) if words else ""
        raise UserError(f"ldm sweep: {found}{hint} Type `ldm sweep table DIR`.".replace("  ", " "))
    if len(words) != 2:
        raise UserError("`ldm sweep table DIR` takes one directory, the sweep_dir= of a sweep.")
    directory = Path(words[1])
    if not (directory / SWEEP).is_file():
        what = "does not exist" if not directory.is_dir() else f"is no sweep ({SWEEP} is missing)"
        raise UserError(
            f"{directory} {what}. Give the directory of `ldm train -m` (sweep_dir=) or of "
            "`ldm evaluate -m` (out=)."
        )
    sweep = read_sweep(directory)
    if sweep is None:
        raise UserError(f"{directory} has no job yet.")
    print(plain(sweep))
    print(f"table: {directory / 'table.md'}, table.csv   page: {write_sweep(directory)}")
    return 0
