"""A metrics file that is being made: by one command at a time, and known as such to others."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldm.data.lock import alone


def lock_of(out: Path) -> Path:
    """The lock beside a metrics file, held while it is being made."""
    return out.with_name(f"{out.name}.lock")


@contextmanager
def held(out: Path) -> Iterator[None]:
    """A metrics file for one command at a time; ValueError where another is making it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_of(out)
    with alone(lock, f"{out} is being made by another process; wait for it, or stop it."):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
