"""What the YAML files say of themselves to people: their header, and the headings inside."""

import re
from pathlib import Path


def header(file: Path) -> str:
    """The comment that a file begins with, line by line."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            lines.append(line.lstrip("# "))
    return "\n".join(lines)


def first_sentence(file: Path) -> str:
    """What a file says of itself, in a line or so."""
    text = " ".join(header(file).split("\n"))
    sentence = re.split(r"(?<!\bal)[.;]\s", text, maxsplit=1)[0]  # not after "et al."
    return sentence.rstrip(".; ")


def headings(file: Path) -> dict[int, str]:
    """For each line, counted from 1, the comment above it that begins a line; "" without one."""
    found, heading = {}, ""
    lines = file.read_text(encoding="utf-8").splitlines()
    begun = False
    for number, line in enumerate(lines, 1):
        begun = begun or not line.startswith("#")
        if begun and line.startswith("#"):
            heading = line.lstrip("# ").rstrip()
        found[number] = heading
    return found
