"""What Hydra complains of, in the user's words, with the line of the file that says it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from hydra.errors import MissingConfigException
from omegaconf.errors import GrammarParseError

from ldm.apps.config_files import choices, find_config
from ldm.apps.errors import UserError, suggestion
from ldm.apps.yaml_lines import DefaultsEntry, YamlFile, read_yaml_lines, shown_path

_WORDS = ("override", "optional")
_PACKAGES = {  # groups whose settings do not lie in a group of their name
    "stage": "_global_", "trainer": "_global_", "recipe": "_global_", "experiment": "_global_",
    "metrics": "metrics.",
}  # fmt: skip


def groups_in(roots: list[Path]) -> list[str]:
    """The names of all groups."""
    return sorted({path.name for root in roots for path in root.iterdir() if path.is_dir()})


def require_readable_by_hydra(command: str, words: Sequence[str], roots: list[Path]) -> None:
    """UserError for what Hydra overlooks in the files that a command's words lead to.

    It passes over unknown words in a defaults list (``optinal group: name``), and puts the settings
    of a file whose first line does not say where they belong into a group of their own.
    """
    for file, said in _used(command, words, roots):
        package = _PACKAGES.get(file.parent.name, "") if file.parent not in roots else ""
        if not (said.package or "").startswith(package):
            name = file.stem if package.endswith(".") else ""
            raise UserError(
                f"{file.stem!r} does not say where its settings belong: its first line must be "
                f"`# @package {package}{name}`. ({shown_path(file)}:1)"
            )
        for entry in said.defaults:
            for word in entry.words:
                if word not in _WORDS:
                    raise UserError(
                        f"{word!r} has no meaning in a defaults list. {suggestion(word, _WORDS)} "
                        f"({shown_path(file)}:{entry.number})"
                    )


def missing_config(
    command: str, error: MissingConfigException, words: Sequence[str], roots: list[Path]
) -> str:
    """A configuration that is asked for, typed or in a defaults list, and is not there."""
    group, _, name = str(error.missing_cfg_file or "").rpartition("/")
    typed = [word.partition("=")[2] for word in words if word.lstrip("+").startswith(f"{group}=")]
    is_typed = any(name in value.strip("[]").split(",") for value in typed)
    where = "" if is_typed else _line_of(str(error), group, name, words, roots)
    if not group:
        return f"there is no configuration {name!r}. See `ldm {command} --help`.{where}"
    known = [*choices(group, roots), *(["_self_"] if where else [])]
    if not choices(group, roots):
        close = suggestion(group, groups_in(roots))
        return f"{group!r} is no group of configurations. {close}{where}"
    return f"{group}={name}: there is no such configuration. {suggestion(name, known)}{where}"


def unreadable(error: yaml.YAMLError) -> str:
    """A file that is no YAML, or says a thing twice."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    twice = re.match(r"found duplicate key (.+)", problem)
    if twice:
        problem = f"{twice[1]!r} is set twice; leave one of them"
    where = "" if mark is None else f" ({shown_path(Path(mark.name))}:{mark.line + 1})"
    return f"this configuration cannot be read: {problem}.{where}"


def unfinished_interpolation(
    error: GrammarParseError, words: Sequence[str], roots: list[Path]
) -> str:
    """A value such as ``${lr``."""
    within = re.search(r"full_key: (\S+)", str(error))
    key = within[1] if within else str(error.key)
    where = ""
    for file, found in _readable(roots, words):
        for line in found.lines:
            if ".".join(line.key) == key and "${" in line.text and not where:
                where = f" ({shown_path(file)}:{line.number})"
    return (
        f"{key} holds an unfinished interpolation: write ${{NAME}}, or \\${{ for the characters."
        f"{where}"
    )


def no_mapping(roots: list[Path], words: Sequence[str]) -> str | None:
    """What to say of a configuration asked for that holds no settings at all; None without one."""
    for word in words:
        group, _, name = word.lstrip("+").partition("=")
        file = find_config(f"{group}/{name}", roots)
        if file is not None:
            try:
                read_yaml_lines(file)
            except UserError as error:
                return str(error)
    return None


def defaults_mistake(
    command: str, text: str, words: Sequence[str], roots: list[Path]
) -> str | None:
    """A mistake in a file's defaults list; None for others."""
    text = re.sub(r"\s*\n\s*", " ", text).strip()
    within = re.search(r"[Ii]n '?([\w/.-]+?)'?[:,]", text)
    said = within[1] if within else None
    unknown = re.search(r"Could not override '([^'@]+)", text)
    twice = re.search(r"(\S+) appears more than once|Multiple values for ([^. ]+)", text)
    if unknown and said:
        name = unknown[1]
        for file, entry in _entries(roots, words, said):
            if entry.group.lstrip("/") == name:
                where = f" ({shown_path(file)}:{entry.number})"
                groups = groups_in(roots)
                if name in groups:
                    return (
                        f"{name!r} has no place in this `ldm {command}`: its stage does without. "
                        f"Leave it out, or override stage before it.{where}"
                    )
                return f"{name!r} is no group of `ldm {command}`. {suggestion(name, groups)}{where}"
    if twice:
        name = (twice[1] or twice[2]).strip("'")
        for file, entry in _entries(roots, words, said):
            if entry.group.lstrip("/") == name and "override" not in entry.words:
                where = f" ({shown_path(file)}:{entry.number})"
                return (
                    f"{name!r} is chosen already by the files above: write "
                    f"`- override /{name}: {','.join(entry.names)}`.{where}"
                )
    if said and (file_said := find_config(said, roots)) is not None:
        number = read_yaml_lines(file_said).defaults_number
        rest = " ".join(text.replace(within[0] if within else "", "").split())
        return f"{rest} ({shown_path(file_said)}{f':{number}' if number else ''})"
    return None


def _line_of(text: str, group: str, name: str, words: Sequence[str], roots: list[Path]) -> str:
    """Where a defaults list asks for a configuration; nothing where none does."""
    within = re.search(r"In '([^']+)'", text)
    for file, entry in _entries(roots, words, within[1] if within else None):
        last = group.rpartition("/")[2]
        if name in entry.names and entry.group.rpartition("/")[2] in (last, ""):
            return f" ({shown_path(file)}:{entry.number})"
    return ""


def _entries(
    roots: list[Path], words: Sequence[str], first: str | None
) -> Iterator[tuple[Path, DefaultsEntry]]:
    """Entries of defaults lists: of the configuration Hydra names, of those typed, of others."""
    for file, said in _readable(roots, words, first):
        yield from ((file, entry) for entry in said.defaults)


def _readable(
    roots: list[Path], words: Sequence[str], first: str | None = None
) -> Iterator[tuple[Path, YamlFile]]:
    names = [first] if first else []
    names += [word.lstrip("+").replace("=", "/", 1) for word in words]
    found = [file for name in names if (file := find_config(name, roots)) is not None]
    for root in reversed(roots):
        found += sorted(root.rglob("*.yaml"))
    for file in dict.fromkeys(found):
        with suppress(yaml.YAMLError, UserError):  # has nothing to do with what is asked for
            yield file, read_yaml_lines(file)


def _used(command: str, words: Sequence[str], roots: list[Path]) -> Iterator[tuple[Path, YamlFile]]:
    """The files that a command and its words name, and those that these name in turn."""
    typed = [word.lstrip("+").partition("=") for word in words]
    names = [f"{key}/{name}" for key, _, value in typed for name in value.strip("[]").split(",")]
    names.append(command)
    seen: set[Path] = set()
    while names:
        name = names.pop()
        file = find_config(name, roots)
        if file is None or file in seen:
            continue
        seen.add(file)
        with suppress(yaml.YAMLError, UserError):  # Hydra says what is wrong with it
            said = read_yaml_lines(file)
            yield file, said
            for entry in said.defaults:
                beside = name.rpartition("/")[0]
                group = entry.group.lstrip("/") if entry.group.startswith("/") else ""
                group = group or f"{beside}/{entry.group}".strip("/")
                names += [f"{group}/{other}".lstrip("/") for other in entry.names]
