"""A run's directory: whose it is, whether it goes on, and what it may not mix with."""

import os
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.errors import UserError
from ldm.manifest import FILE_NAME, atomic, read_manifest

# Settings that may change between two sittings of one run: they do not change what is learned.
FREE = {
    "run", "resume", "max_steps", "checkpoint_every", "keep_checkpoints", "validate_every",
    "log_every", "logger", "accelerator", "devices", "num_nodes", "strategy", "micro_batch",
    "weights_dir", "workers", "preview",
}  # fmt: skip


def is_first_process() -> bool:
    """Whether this process may create and move files (rank 0, or the only one)."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def open_run(config: DictConfig) -> bool:
    """Create or take up ``config.run``; False when that run is already finished.

    UserError naming the settings that differ when the directory belongs to another configuration.
    """
    directory = Path(config.run)
    if not is_first_process():
        return True
    if directory.exists() and not directory.is_dir():
        raise UserError(f"run={directory} is a file; give the name of a directory.")
    if directory.is_dir() and config.resume == "never":
        shutil.move(directory, aside := unused_name(directory))
        print(f"resume=never: the earlier run is now {aside}")
    written = directory / "config.yaml"
    begun = directory.is_dir() and any(path != written for path in directory.iterdir())
    if begun and written.is_file():
        before = _flat(OmegaConf.to_container(OmegaConf.load(written), resolve=True))
        now = _flat(OmegaConf.to_container(config, resolve=True))
        _refuse_difference(directory, before, now)
        if (directory / FILE_NAME).is_file():
            reached = read_manifest(directory).facts["step"]
            if reached >= config.max_steps or not (directory / "checkpoints").is_dir():
                return False
            (directory / FILE_NAME).unlink()
    elif begun:
        raise UserError(
            f"run={directory} holds other files and no run of ldm; choose another run=."
        )
    with atomic(written) as temporary:
        temporary.write_text(OmegaConf.to_yaml(config, resolve=True))
    return True


def unused_name(directory: Path) -> Path:
    """``directory`` with .1, .2, ... appended: the first that does not exist."""
    number = 1
    while (aside := directory.parent / f"{directory.resolve().name}.{number}").exists():
        number += 1
    return aside


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        found: dict[str, Any] = {}
        for key, value in node.items():
            if key not in FREE:
                found |= _flat(value, f"{prefix}{key}.")
        return found
    return {prefix.rstrip("."): node}


def _refuse_difference(directory: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    differing = [k for k in sorted(before | now) if before.get(k) != now.get(k)]
    if differing:
        shown = "; ".join(f"{k}: {before.get(k)!r} -> {now.get(k)!r}" for k in differing[:8])
        more = f" and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise UserError(
            f"{directory} belongs to a run with other settings ({shown}{more}). Give the same "
            "settings to go on, another run=, or resume=never to start anew (the old directory "
            "is moved aside)."
        )
