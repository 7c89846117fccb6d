"""One job of a sweep: its varied words, its directory, its command, and how it ended."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from ldm.apps.run_directory import OUTPUT
from ldm.manifest import fingerprint

LONGEST = 120  # characters of a job's directory name


@dataclass(frozen=True, eq=False)
class Job:
    """A command with one value of each varied setting; ``number`` counts from 1."""

    number: int
    choice: tuple[str, ...]
    directory: Path
    arguments: tuple[str, ...]  # all words behind `ldm COMMAND`
    config: DictConfig

    def __str__(self) -> str:
        return " ".join(self.choice)

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def log(self) -> Path:
        """Where everything goes that the job says."""
        return self.directory / OUTPUT

    @property
    def said(self) -> int:
        """The bytes of output until now."""
        return self.log.stat().st_size if self.log.is_file() else 0


@dataclass(frozen=True)
class Outcome:
    """How a job ended: one of the states, its seconds, and why where it failed."""

    state: str
    seconds: float = 0.0
    why: str = ""


def directory_name(choice: Sequence[str]) -> str:
    """A readable name of the varied words; a hash tells apart what had to be changed or cut."""
    name = ",".join(choice)
    safe = re.sub(r"[^\w.=+,-]+", "_", name)
    if safe == name and len(name) <= LONGEST:
        return name
    return f"{safe[:LONGEST].rstrip('_')}-{fingerprint(list(choice))[:8]}"


def last_words(log: Path, start: int) -> str:
    """What a job said last, or of its mistake, from byte ``start`` of its output on."""
    if not log.is_file():
        return ""
    with open(log, "rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    said = [line for line in lines if line.startswith("ldm: ")] or [line for line in lines if line]
    return said[-1].removeprefix("ldm: ") if said else ""
