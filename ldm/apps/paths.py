"""Settings that are paths: whose home ~ is, and from where a relative one counts.

No process of ours changes its working directory, so a relative path means the same file in all of
them. What outlives the command, and may be read from elsewhere, has it from the root.
"""

import copy
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

# Dotted keys by command. A source of data (data.path) may be a pattern, a url or a name of the hub.
PATHS = {
    "prepare": ("out", "data.path", "data.cache_dir"),
    "train": (
        "run", "init", "autoencoder_run", "text_run", "weights_dir", "data.root",
        "data.cache_dir", "evaluation.shards",
    ),
    "cache": ("autoencoder_run", "text_run", "data.root", "data.cache_dir", "out"),
    "sample": ("model", "prompts", "image", "mask", "out"),
    "evaluate": (
        "model", "samples", "reference", "data.root", "data.cache_dir", "prompts", "text_run",
        "weights_dir", "out", "notes",
    ),
    "plan": ("out",),
    "logs": ("run",),
    "export": ("model", "out", "metrics_file"),
    "import": ("from", "run"),
    "materials": ("model", "out"),
    "run": ("out", "data.path"),
    "weights": ("weights_dir",),
    "sweep": ("sweep_dir",),
}  # fmt: skip


def expand_home(command: str, config: DictConfig) -> None:
    """Let ~ at the beginning of a path mean a home directory, as shells let it only at times."""
    for key in PATHS.get(command, ()):
        found = _select(config, key)
        if _begins_at_home(found):
            OmegaConf.update(config, key, _each(os.path.expanduser, found))


def from_root(config: DictConfig, directory: str | Path | None = None) -> DictConfig:
    """A training configuration whose paths count from the root, for files that outlive a command.

    Relative ones count from ``directory``, by default where the command was begun. Urls stay.
    """
    whole = copy.deepcopy(config)
    OmegaConf.set_struct(whole, False)
    base = Path(directory or Path.cwd())
    for key in PATHS["train"]:
        found = _select(whole, key)
        if found is not None:
            OmegaConf.update(whole, key, _each(lambda path: absolute(path, base), found))
    return whole


def absolute(path: str, base: Path) -> str:
    """A path as it counts from ``base``; urls as they are."""
    return path if "://" in path else os.path.normpath(base / os.path.expanduser(path))


def _select(config: DictConfig, key: str) -> Any:
    *parents, name = key.split(".")
    node: Any = config
    for parent in parents:
        node = node.get(parent)
        if not isinstance(node, DictConfig):
            return None
    if name not in node or OmegaConf.is_missing(node, name):
        return None
    found = node[name]
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


def _begins_at_home(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(path, str) and path.startswith("~") for path in values)


def _each(change: Any, value: Any) -> Any:
    """One path, or each of a list."""
    if isinstance(value, list):
        return [change(path) if isinstance(path, str) else path for path in value]
    return change(value) if isinstance(value, str) else value
