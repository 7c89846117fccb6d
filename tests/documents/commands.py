"""The commands that documents tell a reader to type: lines of their shell blocks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^[ ]*```(?P<language>bash|sh)?\n(?P<body>.*?)^[ ]*```", re.M | re.S)
_SCRIPTS = {"python train.py": "ldm train", "python sample.py": "ldm sample"}


class Typed(NamedTuple):
    """A command as it is typed, and where it stands."""

    document: Path
    line: int
    command: str
    words: list[str]

    def __str__(self) -> str:
        where = self.document.relative_to(ROOT)
        return f"{where}:{self.line}: ldm {self.command} {shlex.join(self.words)}"


def name_of(document: Path) -> str:
    """A document's name for people: its path in the repository."""
    return document.relative_to(ROOT).as_posix()


def commands(document: Path) -> Iterator[Typed]:
    """Every `ldm ...` line in the document's shell blocks, without "..." (and so on)."""
    for number, line, _ in _lines(document):
        for script, command in _SCRIPTS.items():
            line = re.sub(rf"^{re.escape(script)}\b", command, line)
        if line.startswith("ldm "):
            _, command, *words = shlex.split(line, comments=True)
            yield Typed(document, number, command, [w for w in words if w != "..."])


def programs(document: Path) -> set[str]:
    """The first words of lines in blocks marked as bash: what a reader's shell would start."""
    return {line.split()[0] for _, line, is_bash in _lines(document) if is_bash and line}


def _lines(document: Path) -> Iterator[tuple[int, str, bool]]:
    """Lines of blocks with their numbers, and whether of bash; those after a \\ are joined."""
    text = document.read_text()
    for block in _BLOCK.finditer(text):
        begun, waiting = 0, ""
        for number, line in enumerate(
            block["body"].splitlines(), text[: block.start("body")].count("\n") + 1
        ):
            begun = begun if waiting else number
            waiting += line.strip()
            if waiting.endswith("\\"):
                waiting = waiting[:-1]
                continue
            yield begun, waiting, block["language"] is not None
            waiting = ""
