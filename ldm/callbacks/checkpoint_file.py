"""One file of resume state: written whole and read back, or not there at all."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from ldm.manifest import atomic


def path_of(directory: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return directory / f"step_{step:09d}.pt"


def found(directory: Path) -> list[Path]:
    """The checkpoints of a directory, oldest first."""
    return sorted(directory.glob("step_" + "[0-9]" * 9 + ".pt"))


def step_of(path: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(path.stem.removeprefix("step_"))


def write(path: Path, state: dict[str, Any]) -> None:
    """Write, fsync, read all of it back, then give it its name; OSError where that fails."""
    with atomic(path) as temporary:
        try:
            with open(temporary, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:
            # torch closes its archive after a failed write, and complains about that instead.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
        try:
            _require_checksums(temporary)
        except (zipfile.BadZipFile, ValueError) as error:
            raise OSError(f"what was written is not what is there: {error}") from error


def read(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """The state in a file, all of whose checksums hold; ValueError with the reason otherwise."""
    try:
        _require_checksums(path)
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error
    return state


def _require_checksums(path: Path) -> None:
    """Read all of a file; ValueError where an entry is not what torch meant to write.

    torch's own reader does not look at these checksums.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} does not hold")
