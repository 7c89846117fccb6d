"""Where a YAML file says what: the line, the value as written and the comment of every key."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from ldm.apps.errors import UserError

_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")


class Line(NamedTuple):
    """A key of a YAML file."""

    key: tuple[str, ...]
    number: int  # counted from 1
    text: str  # the value as written; "" of a group
    comment: str
    is_group: bool


class DefaultsEntry(NamedTuple):
    """An entry of a defaults list: ``- override /group: name``, or ``- name``."""

    number: int  # of its line, counted from 1
    words: tuple[str, ...]  # before the group: override, optional, or a misspelt one
    group: str  # without its package; "" of a bare name
    package: str  # behind the @; "" without one
    names: tuple[str, ...]
    comment: str


class YamlFile(NamedTuple):
    """What a file says, in its order."""

    package: str | None  # of its first line, `# @package NAME`
    title: str  # its first comment
    lines: tuple[Line, ...]
    defaults: tuple[DefaultsEntry, ...]
    defaults_number: int  # line of the key `defaults`; 0 without one


def read_yaml_lines(file: Path) -> YamlFile:
    """Read a file; yaml.YAMLError where it is no YAML, UserError where it holds no settings."""
    text = file.read_text(encoding="utf-8")
    written = text.splitlines()
    node = yaml.compose(text, Loader=yaml.CSafeLoader)
    header = re.match(r"#\s*@package\s+(\S+)", text)
    titles = [line[1:].strip() for line in written if line.startswith("# ") and "@pack" not in line]
    found = YamlFile(header[1] if header else None, titles[0] if titles else "", (), (), 0)
    if node is None:
        return found
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{shown_path(file)} holds no settings: write `key: value`, one a line.")
    lists = [(k, v) for k, v in node.value if k.value == "defaults"]
    return found._replace(
        lines=tuple(_keys(node, (), written)),
        defaults=tuple(e for _, value in lists for e in _entries(value, written)),
        defaults_number=lists[0][0].start_mark.line + 1 if lists else 0,
    )


def shown_path(file: Path) -> str:
    """A path as it is typed from here where it lies below, else whole."""
    path = file.resolve()
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _keys(node: yaml.Node, above: tuple[str, ...], written: list[str]) -> Iterator[Line]:
    pairs: list[tuple[str, int, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(str(k.value), k.start_mark.line, v) for k, v in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(str(i), v.start_mark.line, v) for i, v in enumerate(node.value)]
    for name, number, value in pairs:
        if not above and name == "defaults":
            continue
        if name == "<<":  # what an anchor brings in
            yield from _keys(value, above, written)
            continue
        key = (*above, name)
        is_group = isinstance(value, yaml.MappingNode)
        text = "" if is_group and not value.flow_style else _text(value, written)
        yield Line(key, number + 1, text, _comment(written, number, value), is_group)
        yield from _keys(value, key, written)


def _text(node: yaml.Node, written: list[str]) -> str:
    """A value as it stands in the file, on one line."""
    begin, end = node.start_mark, node.end_mark
    if begin.line == end.line:
        return written[begin.line][begin.column : end.column]
    if isinstance(node, yaml.ScalarNode) or not node.flow_style:
        return str(node.value) if isinstance(node, yaml.ScalarNode) else "[...]"
    rows = [written[begin.line][begin.column :], *written[begin.line + 1 : end.line]]
    rows.append(written[end.line][: end.column] if end.line < len(written) else "")
    return " ".join(row.strip() for row in rows).strip()


def _comment(written: list[str], number: int, value: yaml.Node) -> str:
    """The comment behind a key, with lines below that begin in its column."""
    is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    last = number if is_block else min(value.end_mark.line, len(written) - 1)
    line = written[last]
    begin = value.end_mark.column if not is_block and value.end_mark.line == last else 0
    found = _COMMENT.search(line, begin) if is_block or begin else None
    if found is None:
        return ""
    said, column = [found[1].strip()], line.index("#", found.start())
    for below in written[last + 1 :]:
        if not below.strip().startswith("#") or below.index("#") != column or column < 3:
            break
        said.append(below.strip()[1:].strip())
    return " ".join(said)


def _entries(node: yaml.Node, written: list[str]) -> Iterator[DefaultsEntry]:
    for entry in node.value if isinstance(node, yaml.SequenceNode) else ():
        number = entry.start_mark.line
        comment = _comment(written, number, entry)
        if isinstance(entry, yaml.MappingNode):
            for key, value in entry.value:
                *words, group = str(key.value).split() or [""]
                group, _, package = group.partition("@")
                several = isinstance(value, yaml.SequenceNode)
                names = tuple(str(v.value) for v in (value.value if several else [value]))
                yield DefaultsEntry(number + 1, tuple(words), group, package, names, comment)
        else:
            name, _, package = str(entry.value).partition("@")
            yield DefaultsEntry(number + 1, (), "", package, (name,), comment)
