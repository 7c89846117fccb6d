"""Room on the disk."""

import shutil
from pathlib import Path


def free_bytes(place: Path) -> int:
    """Bytes that can be written where ``place`` is, or will be once its folders are made."""
    return shutil.disk_usage(next(p for p in (place, *place.absolute().parents) if p.exists())).free
