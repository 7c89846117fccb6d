"""The settings of commands and groups for people: what each may be, its default, its comment."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ldm.apps.config_files import choices, config_root
from ldm.apps.errors import UserError
from ldm.apps.schema.annotation import alternatives, is_described, is_mapping, wanted
from ldm.apps.schema.commands import fields_of, settings_of_command
from ldm.apps.schema.parts import described
from ldm.apps.yaml_lines import DefaultsEntry, Line, read_yaml_lines

_GLOBAL = ("stage", "trainer", "recipe", "experiment")  # groups whose keys lie at the root


class Described(NamedTuple):
    """One setting."""

    key: str  # dotted, as it is typed
    wanted: str  # what it may be, in words; "" where nothing is known
    default: str  # as the YAML file has it; "???": it must be given; of a group the name chosen
    comment: str  # of the YAML file
    file: Path
    number: int  # of the line there, counted from 1


def settings_of(command: str, stage: str | None = None) -> list[Described]:
    """The settings of a command in the order of its YAML; of training with those of a ``stage``.

    Imports no network: where a part is chosen by name (``sampler=ddim``), the words are the names,
    and ``settings_of_choice`` says what is in it.
    """
    root = config_root()
    files = [root / f"{command}.yaml"]
    known = settings_of_command(command, stage)
    if command == "train":
        files.append(root / "trainer" / "cpu.yaml")
        files += [] if stage is None else [root / "stage" / f"{stage}.yaml"]
    return [each for file in files for each in _of_file(file, known)]


def settings_of_choice(group: str, name: str) -> list[Described]:
    """The settings that ``group=name`` brings, as they are typed; UserError for no such name.

    What they may be is asked of the constructor, so this imports it.
    """
    file = config_root() / group / f"{name}.yaml"
    if not file.is_file():
        raise UserError(f"{group}={name}: there is no such configuration.")
    if group in _GLOBAL:
        stage = name if group == "stage" else None
        known = settings_of_command("run" if group == "recipe" else "train", stage)
        return [*_of_file(file, known)]
    package = read_yaml_lines(file).package or group
    found = []
    lines = _merged(file)
    for key, (at, line) in lines.items():
        if key[-1] not in ("_target_", "_partial_") and _is_leaf(line, lines):
            words = _of_target(key, {k: each.text for k, (_, each) in lines.items()})
            name_of = ".".join([package, *key])
            found.append(Described(name_of, words, line.text, line.comment, at, line.number))
    return found


def title_of_choice(group: str, name: str) -> str:
    """The first comment of ``configs/group/name.yaml``: what it is."""
    return read_yaml_lines(config_root() / group / f"{name}.yaml").title


def names_of_group(group: str) -> list[str]:
    """The shipped names that ``group=`` may have."""
    return choices(group, [config_root()])


def _of_file(file: Path, known: Mapping[str, Any]) -> Iterator[Described]:
    found = read_yaml_lines(file)
    for entry in found.defaults:
        if entry.group:
            yield _of_entry(file, entry)
    lines = {line.key: (file, line) for line in found.lines}
    for key, (_, line) in lines.items():
        if _is_leaf(line, lines):
            words = _words(known.get(key[0]), key[1:])
            yield Described(".".join(key), words, line.text, line.comment, file, line.number)


def _of_entry(file: Path, entry: DefaultsEntry) -> Described:
    group = entry.group.lstrip("/")
    names = ", ".join(names_of_group(group))
    default = "null" if entry.names in (("null",), ()) else ",".join(entry.names)
    return Described(group, f"one of {names}", default, entry.comment, file, entry.number)


def _merged(file: Path) -> dict[tuple[str, ...], tuple[Path, Line]]:
    """Lines by key: of the files that this one begins with, then its own."""
    found: dict[tuple[str, ...], tuple[Path, Line]] = {}
    said = read_yaml_lines(file)
    for entry in said.defaults:
        for name in entry.names if _is_beside(entry) else ():
            folder = config_root() / entry.group.lstrip("/") if entry.group else file.parent
            found |= _merged(folder / f"{name}.yaml")
    for line in said.lines:
        before = found.get(line.key)
        comment = line.comment or (before[1].comment if before else "")
        found[line.key] = (file, line._replace(comment=comment))
    return found


def _is_beside(entry: DefaultsEntry) -> bool:
    """Whether an entry of a defaults list brings its settings to the same place."""
    return entry.names != ("_self_",) and (not entry.group or entry.package == "_here_")


def _is_leaf(line: Line, lines: Mapping[tuple[str, ...], tuple[Path, Line]]) -> bool:
    """Whether this is a setting: neither a group with some in it, nor an entry of a list."""
    above = [line.key[:length] for length in range(1, len(line.key))]
    in_list = any(key in lines and not lines[key][1].is_group for key in above)
    has_more = line.is_group and any(key[:-1] == line.key for key in lines)
    return not in_list and not has_more


def _of_target(key: tuple[str, ...], texts: Mapping[tuple[str, ...], str]) -> str:
    """What a setting may be, as the nearest constructor around it says."""
    for length in range(len(key) - 1, -1, -1):
        target = texts.get((*key[:length], "_target_"))
        if target is not None:
            takers = described(".".join(key[:length]), target)
            taken = {k: v.annotation for t in reversed(takers) for k, v in t.settings.items()}
            return _words(taken.get(key[length]), key[length + 1 :])
    return ""


def _words(annotation: Any, below: tuple[str, ...]) -> str:
    """The words of what is so far ``below`` an annotation."""
    for name in below:
        inner = [a for a in alternatives(annotation) if is_described(a) or is_mapping(a)]
        if not inner:
            return ""
        (first, *_) = inner
        annotation = fields_of(first).get(name) if is_described(first) else get_args(first)[1]
    return "" if annotation in (None, Any) else wanted(annotation)
