"""From command-line words to one resolved configuration, with Hydra underneath."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
)

from ldm.apps.config_files import choices, config_roots
from ldm.apps.errors import UserError, suggestion
from ldm.apps.hydra_compose import composed, keys_in
from ldm.apps.origins import origins_of
from ldm.apps.paths import expand_home
from ldm.apps.schema.annotation import is_described
from ldm.apps.schema.check import check_schema
from ldm.apps.schema.commands import fields_of, settings_of_command
from ldm.apps.words import split_words


class Draft(NamedTuple):
    """A configuration before anything in it is resolved; what is missing is ``???``."""

    config: DictConfig
    literal: dict[str, str | None]  # texts, which are "" in ``config``
    overrides: list[str]  # the other words
    where: Callable[[str], str]  # key -> " (FILE:LINE)", or "" where it was typed

    def with_texts(self) -> DictConfig:
        """The configuration with the texts, which nothing reads as grammar."""
        for key, value in self.literal.items():
            if value is not None:
                self.config[key] = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
        return self.config


def compose(command: str, arguments: Sequence[str], *, config_dir: str | None = None) -> DictConfig:
    """The resolved configuration of a command; UserError for anything that does not fit.

    Prompts and names of pictures are taken literally (``LITERAL``), and some of them can be unset
    (``OPTIONAL``); all else is Hydra's grammar. ``like=`` brings the settings of a picture, but for
    those given here. ``config_dir`` adds a user's own groups and experiments.
    """
    found = draft(command, arguments, config_dir=config_dir)
    config, where = found.config, found.where
    missing = sorted(key for key in keys_in(config) if _is_missing(config, key))
    if missing:
        raise UserError(_missing(command, missing, config_roots(config_dir)))
    with_mistakes_told(lambda: expand_home(command, config), config, where)
    with_mistakes_told(lambda: OmegaConf.resolve(config), config, where)
    if "autoencoder" in config:
        from ldm.apps.regularizer_choice import choose_regularizer

        choose_regularizer(config, found.overrides)
    check_schema(command, config, where)  # again, for what interpolations brought in
    found.with_texts()
    OmegaConf.set_struct(config, True)
    return config


def draft(command: str, arguments: Sequence[str], *, config_dir: str | None = None) -> Draft:
    """The same with gaps, and before interpolations are looked up."""
    literal, overrides = split_words(command, arguments)
    _require_kept(command, overrides)
    roots = config_roots(config_dir)
    of_recipe, overrides = _named_as_groups(command, overrides, roots)
    _check_experiment(overrides, roots)
    config = composed(command, overrides, roots)
    OmegaConf.set_struct(config, False)
    known = [*config]  # `in config` would overlook what is still missing
    for key, text in of_recipe.items():
        if key not in known:
            raise UserError(f"{key!r} is not a setting of this `ldm run`. {suggestion(key, known)}")
        config[key] = text
    for key, value in literal.items():
        if key not in known:
            raise UserError(f"{key}= is no setting of `ldm {command}`.")
        if value == "???":  # the one text that OmegaConf cannot hold: its mark for missing values
            raise UserError(f"{key}=??? cannot be taken literally; add a word.")
        # The text itself comes last, where nothing reads it as grammar.
        config[key] = None if value is None else ""
    where = partial(_where, command, overrides, roots)
    if command == "train":
        from ldm.apps.training_length import decide_length

        with_mistakes_told(lambda: decide_length(config, overrides, where), config, where)
    with_mistakes_told(lambda: check_schema(command, config, where), config, where)
    return Draft(config, literal, overrides, where)


def _where(command: str, overrides: Sequence[str], roots: list[Path], key: str) -> str:
    return origins_of(command, overrides, roots).file_of(key)


def with_mistakes_told(
    act: Callable[[], object], config: DictConfig, where: Callable[[str], str]
) -> None:
    """Do what may meet an interpolation that leads nowhere; UserError that says which."""
    try:
        act()
    except OmegaConfBaseException as error:
        key = next(filter(partial(_leads_nowhere, config), keys_in(config)), "")
        said = str(error).splitlines()[0].rstrip(".")
        if isinstance(error, InterpolationKeyError):
            name = said.partition("'")[2].partition("'")[0]
            said = f"there is no setting {name!r}. {suggestion(name, keys_in(config))}"
        raise UserError(f"{key}: {said}{'' if said.endswith('?') else '.'}{where(key)}") from error


def _leads_nowhere(config: DictConfig, key: str) -> bool:
    try:
        value = OmegaConf.select(config, key)
        if OmegaConf.is_list(value):
            OmegaConf.to_container(value, resolve=True)
    except OmegaConfBaseException as error:
        return not isinstance(error, InterpolationToMissingValueError)
    return False


def _named_as_groups(
    command: str, words: Sequence[str], roots: list[Path]
) -> tuple[dict[str, str], list[str]]:
    """Settings of a recipe that are named as a group is, such as ``trainer=gpu``; other words.

    A recipe hands them to its commands. Hydra would look for such a group in `ldm run` itself.
    """
    if command != "run":
        return {}, list(words)
    found, others = {}, []
    for word in words:
        key, equals, value = word.partition("=")
        is_group = equals and key != "recipe" and choices(key, roots)
        if is_group and re.fullmatch(r"[\w-]+", value):
            if value not in (known := choices(key, roots)):
                raise UserError(_no_such(key, value, known))
            found[key] = value
        else:
            others.append(word)
    return found, others


def _require_kept(command: str, overrides: Iterable[str]) -> None:
    """UserError where a word ~KEY would delete a setting of the command: all are needed."""
    for override in overrides:
        key = override.partition("=")[0].removeprefix("~")
        if override.startswith("~") and key in _settings_named(command):
            raise UserError(
                f"~{key}: `ldm {command}` needs this setting. Leave the word out for its usual "
                f"value, or give another: {key}=..."
            )


def _settings_named(command: str) -> list[str]:
    """The dotted names of a command's own settings."""
    names = []
    for name, annotation in settings_of_command(command).items():
        inner = fields_of(annotation) if is_described(annotation) else {}
        names += [name, *(f"{name}.{other}" for other in inner)]
    return names


def _check_experiment(overrides: list[str], roots: list[Path]) -> None:
    """UserError for an experiment that does not exist: Hydra passes over optional groups."""
    known = choices("experiment", roots)
    for override in overrides:
        key, _, name = override.partition("=")
        if key == "experiment" and name not in known and "," not in name:
            raise UserError(_no_such(key, name, known))


def _no_such(group: str, name: str, known: Iterable[str]) -> str:
    return f"{group}={name}: there is no such configuration. {suggestion(name, known)}"


def _is_missing(config: DictConfig, path: str) -> bool:
    """Whether the value at a dotted path is literally left open (???) in the configs."""
    *parents, name = path.split(".")
    node: Any = config
    for parent in parents:
        node = node._get_node(parent)
    return OmegaConf.is_missing(node, name) and not node._get_node(name)._is_interpolation()


def _missing(command: str, keys: list[str], roots: list[Path]) -> str:
    wanted = " ".join(f"{key}=..." for key in keys)
    if command == "train" and "max_steps" in keys:
        names = choices("experiment", roots)
        return (
            f"`ldm train` needs experiment=NAME (known: {', '.join(names)}) or these settings: "
            f"{wanted}"
        )
    return f"`ldm {command}` needs {wanted}"
