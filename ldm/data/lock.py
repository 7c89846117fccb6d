"""One command at a time in a directory: a lock that lasts as long as a process of it lives."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any


class Lock:
    """A file lock that is held. A process that gets it as an argument holds it too.

    So one that outlives its parent, killed, still keeps the next command out.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Its descriptor, which a program gets by ``pass_fds`` of subprocess."""
        return self._descriptor

    def __reduce__(self) -> tuple[Callable[[Any], "Lock"], tuple[Any]]:
        return _received, (DupFd(self._descriptor),)


def _received(descriptor: Any) -> Lock:
    return Lock(descriptor.detach())


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):  # no locks on this disk
            raise


@contextmanager
def alone(file: Path, refusal: str) -> Iterator[Lock]:
    """Held by one command at a time, until it ends in whatever way; ValueError for another.

    The command may remove the file at its end. Who opened it just before holds a lock on nothing,
    and is told so as if he had come a moment earlier.
    """
    with open(file, "w") as opened:
        try:
            _lock(opened.fileno())
            if not os.path.samestat(os.fstat(opened.fileno()), file.stat()):
                raise FileNotFoundError(file)
        except (BlockingIOError, FileNotFoundError) as error:
            raise ValueError(refusal) from error
        yield Lock(opened.fileno())


def is_held(file: Path) -> bool:
    """Whether a command is at work behind this lock now."""
    if not file.is_file():
        return False
    try:
        with alone(file, "held"):
            return False
    except ValueError:
        return True
