"""`RUN/record.json`: what is known of a run's sittings, and the words that one was begun by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ldm.manifest import read_json

RECORD = "record.json"


class Typed(NamedTuple):
    """What a run was asked for by: settings as they were typed, and the folder of more configs."""

    words: Sequence[str] = ()
    config_dir: str | None = None


def read_record(run: Path) -> dict[str, Any]:
    """{"sittings": [...], "packages": {fingerprint: {name: version}}}; both empty where none is."""
    path = run / RECORD
    found = read_json(path) if path.is_file() else {}
    return {"sittings": [], "packages": {}} | (found if isinstance(found, dict) else {})
