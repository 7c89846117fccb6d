"""A directory that is either whole or absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldm.apps.errors import UserError
from ldm.manifest import FILE_NAME, read_manifest


@contextmanager
def whole_directory(out: Path) -> Iterator[Path]:
    """A temporary sibling that becomes ``out``, which may be empty, when the block succeeds."""
    out = Path(os.path.abspath(out))
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if out.is_dir():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def holds(out: Path, name: str, *, kind: str, wanted: dict[str, str]) -> bool:
    """Whether ``out`` holds what is asked for already: a ``kind`` with these fingerprints.

    False where it is empty or absent; UserError where it holds anything else. ``name`` is the
    setting that errors speak of.
    """
    if out.resolve() == Path.cwd():
        raise UserError(f"{name}={out} is where you are; give the name of a new directory.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{name}={out} is a file; give the name of a directory.")
    if not out.is_dir() or not any(out.iterdir()):
        return False
    if (out / FILE_NAME).is_file():
        manifest = read_manifest(out)
        found = {key: entry["fingerprint"] for key, entry in manifest.inputs.items()}
        if manifest.kind == kind and found == wanted:
            return True
    raise UserError(
        f"{name}={out} holds something else already; choose another {name}=, or move it away."
    )
