"""One file of resume state: written whole and read back, or not there at all."""

import os
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ldm.manifest import atomic

_CHUNK = 1 << 20


# What readers of zips and pickles say of bytes that are others than were written.
_DAMAGED = (
    RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


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
    """Write, fsync, read all of it back, then give it its name; OSError where that fails.

    Reading back compares bytes: torch's safe unpickler is Python, which would hold up training.
    """
    with atomic(path) as temporary:
        with open(temporary, "wb") as file:
            summed = _Summed(file)
            try:
                torch.save(state, summed)  # type: ignore[arg-type]  # it only writes
            except RuntimeError as error:
                # torch closes its archive after a failed write, and complains about that instead.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise
            file.flush()
            os.fsync(file.fileno())
        if _checksum(temporary) != summed.checksum:
            raise OSError("what was written is not what is there")


def read(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """The state in a file, all of whose checksums hold; ValueError with the reason otherwise."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch's own reader does not look at checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} does not hold")
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
    except _DAMAGED as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error
    return state


class _Summed:
    """A file that is written from its beginning to its end, and the checksum of what was."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.checksum = file, 0

    def write(self, data: Any) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
