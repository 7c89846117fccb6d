"""A run's directory: whose it is, whether it goes on, and what it may not mix with."""

import os
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.errors import UserError
from ldm.manifest import FILE_NAME, atomic, read_json, read_manifest, write_json

CONFIG, INPUTS = "config.yaml", "inputs.json"

# Settings that may change between two sittings of one run: they do not change what is learned.
FREE = {
    "run", "resume", "max_steps", "checkpoint_every", "keep_checkpoints", "validate_every",
    "log_every", "logger", "accelerator", "devices", "num_nodes", "strategy", "micro_batch",
    "max_micro_pixels", "weights_dir", "workers", "max_bad_fraction", "cache_dir", "cache_gb",
    "preview", "sampler", "activation_checkpointing", "compile", "force_precision",
}  # fmt: skip


# How torchrun, Lightning's own launcher and SLURM tell a process its number.
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """Whether this process may create and move files (rank 0, or the only one)."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def open_run(config: DictConfig, inputs: dict[str, dict[str, str]]) -> bool:
    """Create or take up ``config.run``; False when that run is already finished.

    ``inputs`` are what it is made from. UserError naming what differs when the directory belongs
    to another configuration, or to inputs that have been made anew since. Only the first process
    writes; all come to the same answer.
    """
    directory = Path(config.run)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"run={directory} is a file; give the name of a directory.")
    written = directory / CONFIG
    if directory.is_dir() and config.resume == "never":
        if is_first_process():
            shutil.move(directory, aside := unused_name(directory))
            print(f"resume=never: the earlier run is now {aside}")
    elif directory.is_dir() and {p.name for p in directory.iterdir()} - {CONFIG, INPUTS}:
        if is_first_process():
            _refuse_difference(directory, config, inputs)
        if (directory / FILE_NAME).is_file():
            reached = read_manifest(directory).facts["step"]
            if reached >= config.max_steps or not (directory / "checkpoints").is_dir():
                return False
            if is_first_process():
                (directory / FILE_NAME).unlink()
                if "cosine" in str(config.learning_rate._target_):
                    print(
                        f"{directory}: max_steps grows from {reached} to {config.max_steps}, so "
                        "the cosine is stretched and the learning rate rises again at the seam."
                    )
    if is_first_process():
        write_json(directory / INPUTS, inputs)
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


def _refuse_difference(
    directory: Path, config: DictConfig, inputs: dict[str, dict[str, str]]
) -> None:
    if not (directory / CONFIG).is_file():
        raise UserError(
            f"run={directory} holds other files and no run of ldm; choose another run=."
        )
    earlier = OmegaConf.load(directory / CONFIG)
    before = _flat(OmegaConf.to_container(earlier, resolve=True))
    now = _flat(OmegaConf.to_container(config, resolve=True))
    differing = [k for k in sorted(before | now) if before.get(k) != now.get(k)]
    if differing:
        shown = "; ".join(f"{k}: {before.get(k)!r} -> {now.get(k)!r}" for k in differing[:8])
        more = f" and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise UserError(
            f"{directory} belongs to a run with other settings ({shown}{more}). Give the same "
            "settings to go on, another run=, or resume=never to start anew (the old directory "
            "is moved aside)."
        )
    made_from = read_json(directory / INPUTS) if (directory / INPUTS).is_file() else {}
    for name, entry in made_from.items():
        found = inputs.get(name, {}).get("fingerprint")
        if found != entry["fingerprint"]:
            raise UserError(
                f"{directory} was trained on {name} with the fingerprint {entry['fingerprint']}, "
                f"but those at {entry['path']} have been made anew (now {found}). Train again with "
                "resume=never (the old directory is moved aside), or with another run=."
            )
