"""Fingerprints that join the stages, and files that are either whole or absent.

Every artefact directory carries ``manifest.json``: what made it, from what, with which settings.
A stage reads its input's manifest before it spends anything (design law 2).
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

FILE_NAME = "manifest.json"
VERSION = "0.1.0"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fingerprint(value: Any) -> str:
    """16 hex digits that stand for a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: str | Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary sibling of ``path`` that replaces it, fsynced, when the block succeeds.

    A crash at any moment leaves either the old file or the new one, never a half. The OSError of a
    full disk names ``path``; others are as they are, for they may come from what is read meanwhile.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # the umask's: safetensors writes what only its owner may read
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except SafetensorError as error:  # which wraps what the system said
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    except OSError as error:
        if error.errno in _NO_ROOM and not error.filename:  # which does not say what was written
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether this is a temporary file or folder, which a killed process left where none works."""
    return path.match(".*.[0-9]*.tmp")


def remove_leftovers(directory: str | Path) -> None:
    """Delete the temporary files and folders that killed processes left under a directory."""
    for path in sorted(filter(is_leftover, Path(directory).rglob("*"))):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically, indented for people.

    NaN and infinity, for which JSON has no word, become null.
    """
    text = json.dumps(_finite(value), indent=1, sort_keys=True, allow_nan=False)
    with atomic(path) as temporary:
        temporary.write_text(text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: str | Path) -> Any:
    """The value of a JSON file; ValueError naming the file if it is not JSON."""
    try:
        return json.loads(Path(path).read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged (not JSON: {error}); delete it and rerun.") from error


@dataclass(frozen=True)
class Manifest:
    """What an artefact is: its kind, what made it, from what, with which settings."""

    kind: str
    fingerprint: str
    settings: dict[str, Any]
    inputs: dict[str, dict[str, str]]  # name -> {"path", "fingerprint"}
    facts: dict[str, Any]
    made_by: str


def write_manifest(
    directory: str | Path,
    *,
    kind: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, str]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write ``directory/manifest.json`` atomically and return it.

    The fingerprint covers kind, settings, facts and the inputs' fingerprints, not their paths:
    a moved input is the same input.
    """
    sources = {name: dict(value) for name, value in (inputs or {}).items()}
    identity = {
        "kind": kind,
        "settings": dict(settings),
        "facts": dict(facts or {}),
        "inputs": {name: value["fingerprint"] for name, value in sources.items()},
    }
    manifest = Manifest(
        kind=kind,
        fingerprint=fingerprint(identity),
        settings=dict(settings),
        inputs=sources,
        facts=dict(facts or {}),
        made_by=f"ldm {VERSION}",
    )
    write_json(Path(directory) / FILE_NAME, asdict(manifest))
    return manifest


def read_manifest(directory: str | Path, *, kind: str | None = None, remedy: str = "") -> Manifest:
    """The manifest of an artefact; ValueError with ``remedy`` when absent or of another kind."""
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        what = f"no {kind or 'artefact'} at {directory} ({FILE_NAME} is missing)"
        raise ValueError(f"{what}. {remedy}".strip())
    return manifest_of(read_json(path), directory, kind=kind, remedy=remedy)


def manifest_of(
    value: Any, directory: str | Path, *, kind: str | None = None, remedy: str = ""
) -> Manifest:
    """The manifest that was read in a directory; ValueError as ``read_manifest``."""
    try:
        manifest = Manifest(**value)
    except TypeError as error:
        what = f"{directory}/{FILE_NAME} is not a manifest of ldm: {error}"
        raise ValueError(f"{what}. {remedy}".strip()) from error
    if kind is not None and manifest.kind != kind:
        raise ValueError(
            f"{directory} holds {manifest.kind!r}, but {kind!r} is needed. {remedy}".strip()
        )
    return manifest


def known_manifest(directory: str | Path) -> Manifest | None:
    """The manifest of a directory, None where there is none of ours."""
    try:
        return read_manifest(directory)
    except ValueError:
        return None
