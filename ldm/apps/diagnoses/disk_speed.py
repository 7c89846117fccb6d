"""How fast the disk of runs is: a file written and read through, and read here and there."""

import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from ldm.apps.machine import GB, Check

NAME = "disk speed"
FILE_BYTES = 256 * 1024**2
_CHUNK = 8 * 1024**2
_PIECE = 16 * 1024  # a picture's or a latent's size
_MOST_SECONDS = 4.0  # of each part
_SLOW_MB = 100.0
_FEW_READS = 500.0
_SD1_CHECKPOINT = 13.8 * GB  # weights, two moments and the average of Stable Diffusion 1's UNet


class Speed(NamedTuple):
    """Bytes per second through a file, and reads of one piece per second."""

    write: float
    read: float
    pieces: float


def disk_speed(directory: Path, size: int = FILE_BYTES) -> Check:
    """A file is written there and deleted again; nothing where that cannot be."""
    try:
        if shutil.disk_usage(directory).free < 4 * size:
            return Check(NAME, "warn", f"not measured: {directory} is nearly full")
        with tempfile.TemporaryDirectory(prefix=".ldm_doctor_", dir=directory) as folder:
            return judged(measured(Path(folder) / "file", size), directory)
    except OSError as error:
        remedy = "Give a directory that can be written: `ldm doctor run_dir=DIR`."
        return Check(NAME, "warn", f"not measured: {error}", remedy)


def judged(speed: Speed, directory: Path) -> Check:
    """Whether that is enough."""
    detail = (
        f"{directory}: writes {speed.write / 1e6:,.0f} MB/s, reads {speed.read / 1e6:,.0f} MB/s, "
        f"and {speed.pieces:,.0f} pieces of 16 kB per second"
    )
    if speed.write < _SLOW_MB * 1e6:
        seconds = _SD1_CHECKPOINT / speed.write
        remedy = (
            f"A checkpoint of Stable Diffusion's size takes {seconds / 60:.0f} minutes here: give "
            "run= on a local disk, or a larger checkpoint_every."
        )
        return Check(NAME, "warn", detail, remedy)
    if speed.pieces < _FEW_READS:
        remedy = (
            "Pictures read at random will be waited for: copy data.root to an SSD, or set "
            "data.order=streamed, which reads shard after shard."
        )
        return Check(NAME, "warn", detail, remedy)
    return Check(NAME, "ok", detail)


def measured(path: Path, size: int) -> Speed:
    """Of a file of at most ``size`` bytes, which is left there."""
    chunk = os.urandom(_CHUNK)  # what cannot be packed
    begun = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        written = 0
        while written < size and time.monotonic() - begun < _MOST_SECONDS:
            written += file.write(chunk[: size - written])
        os.fsync(file.fileno())
    write = written / _since(begun)
    with open(path, "rb", buffering=0) as file:
        _forget(file.fileno())
        begun = time.monotonic()
        seen = 0
        while time.monotonic() - begun < _MOST_SECONDS and (got := len(file.read(_CHUNK))):
            seen += got
        read = seen / _since(begun)
        _forget(file.fileno())
        begun, pieces, choice = time.monotonic(), 0, random.Random(0)
        while time.monotonic() - begun < 1.0 and pieces < 20_000:
            file.seek(choice.randrange(max(1, written - _PIECE)))
            file.read(_PIECE)
            pieces += 1
        return Speed(write, read, pieces / _since(begun))


def _since(begun: float) -> float:
    return max(time.monotonic() - begun, 1e-6)


def _forget(file: int) -> None:
    """Let the system drop what it keeps of a file in memory, where it can be told to."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
