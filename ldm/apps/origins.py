"""Where the value of each setting comes from: a line of a file, or a word that was typed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.types import RunMode

from ldm.apps.config_files import find_config, hydra_in
from ldm.apps.yaml_lines import read_yaml_lines, shown_path


class Origin(NamedTuple):
    """The line or the word that said a value last."""

    file: Path | None  # None where it was typed
    number: int  # of the line, counted from 1
    text: str  # what stands there: the value, or the whole word

    def __str__(self) -> str:
        return self.text if self.file is None else f"{shown_path(self.file)}:{self.number}"


class Origins:
    """The origins of one configuration, by dotted key; entries of lists count from 0."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], Origin] = {}
        self._choices: dict[str, tuple[str, Origin]] = {}

    def say(self, key: tuple[str, ...], origin: Origin, *, is_group: bool) -> None:
        """Note that this is where ``key`` gets its value; a value takes the place of a group."""
        if not is_group:
            below = [other for other in self._found if other[: len(key)] == key]
            for other in below:
                del self._found[other]
        self._found[key] = origin

    def of(self, key: str) -> Origin | None:
        """The origin of a setting, or of the nearest group around it; None where nothing is known.

        The regulariser stands at two places: the autoencoder's own, or what takes its place.
        """
        parts = tuple(key.removeprefix("autoencoder.").split("."))
        if parts[0] != "regularizer":
            parts = tuple(key.split("."))
        elif not any(other[0] == "regularizer" for other in self._found):
            parts = ("autoencoder", *parts)
        for length in range(len(parts), 0, -1):
            if parts[:length] in self._found:
                return self._found[parts[:length]]
        chosen = self._choices.get(key)  # null, or what holds no settings
        return chosen[1] if chosen else None

    def choose(self, group: str, name: str, origin: Origin) -> None:
        """Note that ``group=name`` was said there."""
        self._choices[group] = (name, origin)

    def choice(self, key: str) -> tuple[str, Origin] | None:
        """What was chosen for a group of configurations, and where; None for other keys."""
        return self._choices.get(key)

    def file_of(self, key: str) -> str:
        """`` (FILE:LINE)`` where a setting comes from a file, or nothing where it was typed."""
        origin = self.of(key)
        return "" if origin is None or origin.file is None else f" ({origin})"


def origins_of(command: str, words: Sequence[str], roots: list[Path]) -> Origins:
    """The origins of what ``compose`` makes of a command's words (those in Hydra's grammar)."""
    with hydra_in(roots) as more:
        loader = GlobalHydra.instance().config_loader()
        chosen = loader.compute_defaults_list(command, [*words, *more], RunMode.RUN)
    found = Origins()
    _say_choices(found, chosen, words, roots)
    for default in chosen.defaults:
        file = find_config(str(default.config_path), roots)
        if file is None or str(default.config_path).startswith("hydra/"):
            continue
        package = tuple(filter(None, (default.package or "").split(".")))
        for line in read_yaml_lines(file).lines:
            origin = Origin(file, line.number, line.text)
            found.say((*package, *line.key), origin, is_group=line.is_group)
    for override in chosen.config_overrides:
        _say_typed(found, override)
    return found


def _say_choices(found: Origins, chosen: Any, words: Sequence[str], roots: list[Path]) -> None:
    """Where each group got its name: a word, the last ``override``, or else the first entry."""
    said: dict[str, Origin] = {}
    files = [find_config(str(default.config_path), roots) for default in chosen.defaults]
    for file in filter(None, files):
        for entry in read_yaml_lines(file).defaults:
            group = entry.group.lstrip("/")
            if "override" in entry.words or group not in said:
                said[group] = Origin(file, entry.number, ",".join(entry.names))
    said |= {word.partition("=")[0].lstrip("+"): Origin(None, 0, word) for word in words}
    for group, name in chosen.overrides.known_choices.items():
        if group in said:
            found.choose(group, "null" if name is None else str(name), said[group])


def _say_typed(found: Origins, override: Override) -> None:
    key = tuple(override.key_or_group.split("."))
    origin = Origin(None, 0, str(override.input_line))
    value = override.value()
    found.say(key, origin, is_group=isinstance(value, Mapping))
    for name in _names(value):
        found.say((*key, *name), origin, is_group=False)


def _names(value: Any) -> list[tuple[str, ...]]:
    if not isinstance(value, Mapping):
        return []
    return [(str(key), *name) for key, each in value.items() for name in _names(each) or [()]]
