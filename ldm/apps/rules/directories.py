"""Directories that commands write: new or their own, and not where one is."""

from collections.abc import Iterator
from pathlib import Path

from ldm.apps.rules.case import Case


def out(case: Case) -> Iterator[str]:
    """``out`` of commands that make a directory."""
    yield from _directory("out", case.config.out)


def run(case: Case) -> Iterator[str]:
    """``run`` of commands that make one."""
    yield from _directory("run", case.config.run)


def _directory(key: str, path: str) -> Iterator[str]:
    if Path(path).resolve() == Path.cwd():
        yield f"{key}={path} is where you are; give the name of a new directory."
    elif Path(path).exists() and not Path(path).is_dir():
        yield f"{key}={path} is a file; give the name of a directory."
