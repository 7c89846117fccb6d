"""`ldm train run=RUN`: a run goes on as it was begun, from any working directory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.paths import PATHS
from ldm.apps.record.file import RECORD, Typed, read_record

_NEW = ("experiment", "stage")  # who types one of these describes the run himself
_LENGTH = {"max_steps": "max_images", "max_images": "max_steps"}  # one takes the other's place


def taken_up(typed: Typed) -> Typed:
    """The words that a run was begun by, and then the new ones; as they are for any other command.

    That is where ``run=`` names a run with a record and nothing says what is trained. Its inputs
    are looked for where they lay then; a moved one is named anew, as in data.root=LATENTS.
    """
    given = dict(word.partition("=")[::2] for word in typed.words)
    run = Path(given.get("run", "")).expanduser()
    if "run" not in given or given.keys() & {*_NEW} or not (run / RECORD).is_file():
        return typed
    from ldm.apps.run_directory import CONFIG  # with torch: not before a mistake is told

    sittings = read_record(run)["sittings"]
    if not sittings or not (run / CONFIG).is_file():
        return typed
    config = OmegaConf.load(run / CONFIG)
    assert isinstance(config, DictConfig)
    before = [word for word in sittings[-1]["overrides"] if not _is_one_of(word, PATHS["train"])]
    replaced = ["run", "resume", *(_LENGTH[key] for key in given if key in _LENGTH)]
    words = [word for word in before if not _is_one_of(word, replaced)]
    places = [_word(key, OmegaConf.select(config, key)) for key in PATHS["train"] if key != "run"]
    every = [*words, *filter(None, places), *typed.words]
    last = {word.partition("=")[0]: word for word in every}  # of a key that comes again
    return Typed([*last.values()], typed.config_dir or sittings[-1]["config_dir"])


def _is_one_of(word: str, keys: Sequence[str]) -> bool:
    return word.partition("=")[0].lstrip("+~") in keys


def _word(key: str, path: Any) -> str | None:
    """A setting as it is typed, with its value in quotes, where Hydra's grammar ends."""
    if not isinstance(path, str):
        return None
    return f"{key}='" + path.replace("'", "\\'") + "'"
