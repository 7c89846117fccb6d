"""The commands in the documents can be typed: every setting and choice in them exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ldm.apps.compose import compose
from ldm.apps.main import COMMANDS
from ldm.apps.sweep import combinations

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
_FROM_FILES = ("like=", "replay=", "compare=")  # take their settings from what is not there
COMPOSED = ("prepare", "train", "cache", "sample", "evaluate", "export", "import", "run")


def commands(document: Path) -> Iterator[list[str]]:
    """The words of each `ldm ...` line in the document's shell blocks."""
    for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```", document.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("ldm "):
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_can_be_typed(document: Path) -> None:
    for command, *words in commands(document):
        assert command in COMMANDS, command
        if command not in COMPOSED or any(word.startswith(_FROM_FILES) for word in words):
            continue
        words = [word for word in words if word != "..."]  # and so on
        fixed, choices = combinations([w for w in words if w != "-m"]) if "-m" in words else (
            words, [[]],
        )  # fmt: skip
        for choice in choices:
            compose(command, [*fixed, *choice])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_pointed_to_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_documents_have_commands() -> None:
    assert sum(1 for document in DOCUMENTS for _ in commands(document)) > 20
