"""From command-line words to one resolved configuration, with Hydra underneath."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from ldm.apps.config_files import choices, config_roots, hydra_in
from ldm.apps.errors import UserError, suggestion
from ldm.apps.hydra_mistakes import (
    defaults_mistake,
    groups_in,
    missing_config,
    no_mapping,
    unreadable,
)
from ldm.apps.origins import origins_of
from ldm.apps.paths import expand_home
from ldm.apps.schema.annotation import is_described
from ldm.apps.schema.check import check_schema
from ldm.apps.schema.commands import fields_of, settings_of_command

OPTIONAL = ("image", "mask", "like", "prompt_to")  # nothing, or a bare null, is none of them
_FILES = ("image", "mask", "like")  # of them, where ~ means a home directory
LITERAL = ("prompt", "negative", *OPTIONAL)


def compose(command: str, arguments: Sequence[str], *, config_dir: str | None = None) -> DictConfig:
    """The resolved configuration of a command; UserError for anything that does not fit.

    Prompts and names of pictures are taken literally (``LITERAL``), and some of them can be unset
    (``OPTIONAL``); all else is Hydra's grammar. ``like=`` brings the settings of a picture, but for
    those given here. ``config_dir`` adds a user's own groups and experiments.
    """
    literal, overrides = split_words(command, arguments)
    _require_kept(command, overrides)
    roots = config_roots(config_dir)
    of_recipe, overrides = _named_as_groups(command, overrides, roots)
    _check_experiment(overrides, roots)
    config = _compose(command, overrides, roots)
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

    def where(key: str) -> str:
        return origins_of(command, overrides, config_dir).file_of(key)

    if command == "train":
        from ldm.apps.training_length import decide_length

        with_mistakes_told(lambda: decide_length(config, overrides), config, where)
    with_mistakes_told(lambda: check_schema(command, config, where), config, where)
    missing = sorted(key for key in _keys(config) if _is_missing(config, key))
    if missing:
        raise UserError(_missing(command, missing, roots))
    with_mistakes_told(lambda: expand_home(command, config), config, where)
    with_mistakes_told(lambda: OmegaConf.resolve(config), config, where)
    if "autoencoder" in config:
        from ldm.apps.rules import choose_regularizer

        choose_regularizer(config, overrides)
    check_schema(command, config, where)  # again, for what interpolations brought in
    for key, value in literal.items():
        if value is not None:
            config[key] = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    OmegaConf.set_struct(config, True)
    return config


def split_words(command: str, words: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    """The words that are taken literally, by key, and those in Hydra's grammar.

    Those of ``like=FILE`` come first, so that the others are stronger.
    """
    literal, overrides = _split_literal(words)
    literal |= {k: os.path.expanduser(literal[k] or "") for k in _FILES if literal.get(k)}
    like = literal.get("like")
    if command == "sample" and like is not None:
        from ldm.apps.like import recalled

        literal, overrides = recalled(like, literal, overrides)
    _require_text([*(f"{key}={value}" for key, value in literal.items()), *overrides])
    return literal, overrides


def with_mistakes_told(
    act: Callable[[], object], config: DictConfig, where: Callable[[str], str]
) -> None:
    """Do what may meet an interpolation that leads nowhere; UserError that says which."""
    try:
        act()
    except OmegaConfBaseException as error:
        key = str(error.full_key or error.key or "")
        said = str(error).splitlines()[0].rstrip(".")
        if isinstance(error, InterpolationKeyError):
            name = said.partition("'")[2].partition("'")[0]
            said = f"there is no setting {name!r}. {suggestion(name, _keys(config))}"
        raise UserError(f"{key}: {said}{'' if said.endswith('?') else '.'}{where(key)}") from error


def _split_literal(arguments: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    literal: dict[str, str | None] = {}
    overrides = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in LITERAL:
            literal[key] = None if key in OPTIONAL and value in ("", "null") else value
        elif argument.startswith("-"):
            raise UserError(
                f"option {argument!r} is unknown; settings are written key=value, and the options "
                "are --help, --config-dir DIR and, for train and evaluate, -m."
            )
        elif not equals and not argument.startswith("~"):
            raise UserError(f"{argument!r} is no setting; settings are written key=value.")
        else:
            overrides.append(quoted(argument))
    return literal, overrides


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
            found[key] = value
        else:
            others.append(word)
    return found, others


def quoted(argument: str) -> str:
    """The argument with its value in quotes where that holds an equals sign or ~, as paths may.

    Hydra's grammar knows neither outside of quotes, and an equals sign in brackets and functions.
    """
    key, _, value = argument.partition("=")
    if ("=" in value or "~" in value) and not re.match(r"""['"\[{]|\w+\(""", value):
        return f"{key}='" + value.replace("'", "\\'") + "'"
    return argument


def _require_text(words: Iterable[str]) -> None:
    """UserError for bytes that are no text, which could not be printed or written later."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            shown = word.encode(errors="backslashreplace").decode()
            raise UserError(
                f"{shown} is not valid UTF-8. Type it in a terminal that is set to UTF-8; rename a "
                "file that has such a name."
            ) from error


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
            raise UserError(
                f"experiment={name}: there is no such configuration. {suggestion(name, known)}"
            )


def _compose(command: str, overrides: list[str], roots: list[Path]) -> DictConfig:
    try:
        with hydra_in(roots) as more:
            return hydra_compose(command, overrides=[*overrides, *more])
    except MissingConfigException as error:
        raise UserError(missing_config(command, error, overrides, roots)) from error
    except yaml.YAMLError as error:
        raise UserError(unreadable(error)) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_explain(command, str(error), overrides, roots)) from error
    except OSError as error:  # of OmegaConf, of a file that holds a text or a number
        said = no_mapping(roots, overrides)
        if said is None:
            raise
        raise UserError(said) from error


def _explain(command: str, text: str, overrides: list[str], roots: list[Path]) -> str:
    """Hydra's message in the user's words, with the closest known key where one is unknown."""
    unknown = re.search(r"Could not override '([^']+)'", text)
    without = overrides
    if unknown:
        without = [o for o in overrides if o.partition("=")[0].lstrip("+~") != unknown[1]]
    if len(without) == len(overrides):  # nobody typed it
        found = defaults_mistake(command, text, roots)
        if found is not None:
            return found
    group = re.search(r"You must specify '([^']+)'", text)
    if unknown:
        key = unknown[1].split("@")[0]
        try:
            left_out = len(without) < len(overrides)
            known = list(_keys(_compose(command, without, roots))) if left_out else []
        except UserError:
            known = []
        if key in known:
            return (
                f"the value of {key!r} has entries that the configuration does not have. Add each "
                f"by itself, +{key}.NAME=VALUE, or write a file of your own for --config-dir."
            )
        groups = groups_in(roots)
        if key in groups:
            return (
                f"{key!r} has no place in this `ldm {command}`: its stage does without. Leave it "
                "out, or choose another stage= or experiment=."
            )
        known += groups
        return f"{key!r} is not a setting of this `ldm {command}`. {suggestion(key, known)}"
    if group:
        options = choices(group[1], roots)
        return f"`ldm {command}` needs {group[1]}=NAME. Known: {', '.join(options)}."
    return re.sub(r"\s*\n\s*", " ", text.split("Set the environment")[0]).strip()


def _keys(config: Any, prefix: str = "") -> Iterable[str]:
    for key in config:
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(config, key) and OmegaConf.is_dict(config._get_node(key)):
            yield from _keys(config._get_node(key), f"{prefix}{key}.")


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
