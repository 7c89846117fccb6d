"""The shipped configurations with what their comments say: every line of them is documented."""

import re
from typing import NamedTuple

_LINE = re.compile(r"^(?P<indent> *)(?P<item>- )?(?P<key>[\w/@ ]+):(?P<rest>(?:\s.*)?)$")
_VALUE = re.compile(r"""\s*(?P<value>"[^"]*"|'[^']*'|.*?)\s*(?:(?:^|\s)#\s?(?P<comment>.*))?$""")


class Line(NamedTuple):
    """A key in dotted form, its value as it is written, and its comment."""

    key: str
    value: str
    comment: str


class Commented(NamedTuple):
    """A file in parts: what its head says, its settings, the groups it chooses from, remarks."""

    head: list[str]
    settings: list[Line]
    groups: list[Line]
    remarks: list[str]


def commented(text: str) -> Commented:
    """A configuration file whose values stand on lines of their own, each with its comment."""
    found = Commented([], [], [], [])
    parents: list[tuple[int, str]] = []
    in_groups, last = False, found.settings
    for line in text.splitlines():
        if line.startswith("#"):
            where = found.remarks if found.settings or found.groups else found.head
            if not line.startswith("# @package"):
                where.append(line.removeprefix("#").removeprefix(" "))
            continue
        if line.strip().startswith("#"):  # goes on with what the line above says
            if last:
                more = line.strip().removeprefix("#").strip()
                last[-1] = last[-1]._replace(comment=f"{last[-1].comment} {more}".strip())
            continue
        match = _LINE.match(line)
        if match is None:
            continue
        indent, key = len(match["indent"]), match["key"].strip()
        value, comment = _split(match["rest"])
        if indent == 0:
            in_groups = key == "defaults"
            if in_groups:
                continue
        if in_groups:
            last = found.groups
            words = key.removeprefix("optional ").removeprefix("override ")
            last.append(Line(words.removeprefix("/").partition("@")[0], value, comment))
            continue
        last = found.settings
        while parents and parents[-1][0] >= indent:
            parents.pop()
        dotted = ".".join([*(name for _, name in parents), key])
        parents.append((indent, key))
        last.append(Line(dotted, value, comment))
    return found


def _split(rest: str) -> tuple[str, str]:
    match = _VALUE.match(rest)
    assert match is not None  # anything is a value
    return match["value"].strip(), (match["comment"] or "").strip()
