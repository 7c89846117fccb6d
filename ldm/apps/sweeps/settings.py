"""The words of a sweep's command line: its own settings, and those of its jobs."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from omegaconf import DictConfig

from ldm.apps.compose import compose
from ldm.apps.config_files import config_root
from ldm.apps.errors import UserError
from ldm.apps.schema.commands import fields_of, settings_of_command
from ldm.apps.schema.sweep import Launcher, Method

OWN = ("sweep", "sweep_dir", "launcher")


class Settings(NamedTuple):
    """What a sweep was asked for: its resolved settings, and all words that are not its own."""

    config: DictConfig
    words: list[str]


def read_settings(command: str, words: Sequence[str], *, config_dir: str | None) -> Settings:
    """The settings of a sweep over ``command``; UserError for what a sweep does not know."""
    own = [word for word in words if root_of(word) in OWN]
    others = [word for word in words if root_of(word) not in OWN]
    for word in others:
        _require_no_typo(command, word)
    for word in own:
        if "," in word.partition("=")[2] and not word.startswith("launcher.extra="):
            key = word.partition("=")[0]
            raise UserError(f"{word}: {key}= is one value for the whole sweep, not varied.")
    try:
        return Settings(compose("sweep", own, config_dir=config_dir), others)
    except UserError as error:
        raise UserError(str(error).replace("this `ldm sweep`", "this sweep")) from error


def require_no_sweep(command: str, words: Sequence[str]) -> None:
    """UserError where a command that is no sweep has settings of one."""
    for word in words:
        if root_of(word) in OWN:
            raise UserError(
                f"{word}: this is a setting of sweeps. Add -m, as in `ldm {command} -m ...`, with "
                "several values of a setting."
            )


def root_of(word: str) -> str:
    """The key of a word up to its first dot: "sweep" of sweep.trials=12."""
    return word.partition("=")[0].lstrip("+~").partition(".")[0]


def taken(words: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    """The last value of a key, None without one, and the words of other keys."""
    found = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return (found[-1] if found else None), [w for w in words if not w.startswith(f"{key}=")]


def _require_no_typo(command: str, word: str) -> None:
    """UserError where a word can only be meant for the sweep: the command would not say so."""
    key = word.partition("=")[0]
    root = root_of(word)
    known = settings_of_command(command)
    groups = [path.name for path in config_root().iterdir() if path.is_dir()]
    if root in known or root in groups:
        return
    if (close := get_close_matches(root, [*OWN, *known], n=1)) and close[0] in OWN:
        meant = key.replace(root, close[0], 1)
        raise UserError(f"{key!r} is not a setting of a sweep. Did you mean {meant!r}?")
    for part, described in (("sweep", Method), ("launcher", Launcher)):  # trials=12
        if close := get_close_matches(key, fields_of(described), n=1, cutoff=0.8):
            raise UserError(
                f"{key!r} is not a setting of `ldm {command}`. Did you mean '{part}.{close[0]}'?"
            )
