"""Hydra's composition, and its complaints in the user's words."""

import re
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from ldm.apps.config_files import choices, hydra_in
from ldm.apps.errors import UserError, is_one_letter_off, suggestion
from ldm.apps.hydra_mistakes import (
    defaults_mistake,
    groups_in,
    missing_config,
    no_mapping,
    require_readable_by_hydra,
    unfinished_interpolation,
    unreadable,
)
from ldm.apps.origins import origins_of
from ldm.apps.schema.annotation import is_described
from ldm.apps.schema.check import mistakes, mistakes_outside_parts
from ldm.apps.schema.commands import settings_of_command


def composed(command: str, overrides: list[str], roots: list[Path]) -> DictConfig:
    """What Hydra makes of a command's words; UserError where it makes nothing of them."""
    require_readable_by_hydra(command, overrides, roots)
    try:
        with hydra_in(roots) as more:
            return hydra_compose(command, overrides=[*overrides, *more])
    except MissingConfigException as error:
        raise UserError(missing_config(command, error, overrides, roots)) from error
    except yaml.YAMLError as error:
        raise UserError(unreadable(error)) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error.__cause__, GrammarParseError):
            broken = unfinished_interpolation(error.__cause__, overrides, roots)
            raise UserError(broken) from error
        text = str(error) or str(error.__cause__)
        raise UserError(_explain(command, text, overrides, roots)) from error
    except OSError as error:  # of OmegaConf, of a file that holds a text or a number
        said = no_mapping(roots, overrides)
        if said is None:
            raise
        raise UserError(said) from error


def _explain(command: str, text: str, overrides: list[str], roots: list[Path]) -> str:
    """Hydra's message in the user's words, with the closest known key where one is unknown."""
    unfit = _value_of_group(command, text, overrides, roots)
    if unfit is not None:
        return unfit
    unknown = re.search(r"Could not override '([^'@]+)", text)
    without = overrides
    if unknown:
        without = [o for o in overrides if o.partition("=")[0].lstrip("+~") != unknown[1]]
        if len(without) < len(overrides):
            return _unknown(command, unknown[1], without, roots)
    several = re.search(r"Ambiguous value for argument '([^'=]+)=", text)
    if several:
        return (
            f"{several[1]} has several values: `ldm {command} -m ...` tries each. A list is typed "
            f"in brackets, '{several[1]}=[a,b]'."
        )
    found = defaults_mistake(command, text, overrides, roots)
    if found is not None:
        return found
    group = re.search(r"You must specify '([^']+)'", text)
    if group:
        options = choices(group[1], roots)
        return f"`ldm {command}` needs {group[1]}=NAME. Known: {', '.join(options)}."
    known = [*settings_of_command(command), *groups_in(roots), "hydra"]
    for word in overrides:  # of which Hydra's grammar may have made nothing
        key = re.split(r"[.@=]", word.lstrip("+~"))[0]
        if key not in known:
            return f"{key!r} is not a setting of `ldm {command}`. {suggestion(key, known)}"
    return re.sub(r"\s*\n\s*", " ", text.split("Set the environment")[0]).strip()


def _value_of_group(command: str, text: str, overrides: list[str], roots: list[Path]) -> str | None:
    """What to say of a typed value that is no name of a group, and no table; None for others."""
    table = "a group of settings, each typed by itself: {}.NAME=VALUE"
    merging = re.match(r"Error merging override (\S+?)=", text)
    if merging:
        value = next(o for o in overrides if o.startswith(f"{merging[1]}=")).partition("=")[2]
        return f"{merging[1]}={value} does not fit: it must be {table.format(merging[1])}."
    not_named = "Config group override must be" in text
    for word in overrides:
        key, _, value = word.partition("=")
        is_described_here = is_described(settings_of_command(command).get(key))
        names = choices(key, roots)
        if value == "null" and names and (not_named or is_described_here):
            return f"{word} does not fit: it must be one of {', '.join(names)}."
        if is_described_here and (value == "null" or value.startswith("[")):
            return f"{word} does not fit: it must be {table.format(key)}."
    return None


def _unknown(command: str, key: str, others: list[str], roots: list[Path]) -> str:
    """What to say of a typed key that the configuration of the other words does not have."""
    known: list[str] = []
    with suppress(UserError):  # they have mistakes of their own
        config = composed(command, others, roots)
        known += keys_in(config)
        # Parts, which bring torch, only where the key that is meant may be misspelt in their file.
        may_be_meant = (each for each in known if _is_near(each, key))
        is_in_part = any(map(partial(_is_open, config), may_be_meant))
        look = mistakes if is_in_part else mistakes_outside_parts
        for mistake in look(command, config):
            # A group that is no group has no settings, and what a file misspells is not there.
            if key.startswith(f"{mistake.key}.") or _is_near(mistake.key, key):
                where = origins_of(command, others, roots).file_of(mistake.key)
                return f"{mistake.text}{where}"
    if key in known:
        return (
            f"the value of {key!r} has entries that the configuration does not have. Add each "
            f"by itself, +{key}.NAME=VALUE, or write a file of your own for --config-dir."
        )
    groups = groups_in(roots)
    if key in groups and command == "train":
        return (
            f"{key!r} has no place in this `ldm {command}`: its stage does without. Leave it "
            "out, or choose another stage= or experiment=."
        )
    return f"{key!r} is not a setting of this `ldm {command}`. {suggestion(key, known + groups)}"


def _is_near(other: str, key: str) -> bool:
    """Whether a key, or a group around it, is one letter away from another."""
    return is_one_letter_off(other, ".".join(key.split(".")[: other.count(".") + 1]))


def _is_open(config: DictConfig, key: str) -> bool:
    """Whether a key must still be given."""
    above, _, last = key.rpartition(".")
    parent = OmegaConf.select(config, above) if above else config
    return OmegaConf.is_missing(parent, last)


def keys_in(config: Any, prefix: str = "") -> Iterable[str]:
    """The dotted names of groups and settings."""
    for key in config:
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(config, key) and OmegaConf.is_dict(config._get_node(key)):
            yield from keys_in(config._get_node(key), f"{prefix}{key}.")
