"""A run's directory: whose it is, whether it goes on, and what it may not mix with."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.credentials import without_credentials
from ldm.apps.differences import FORBIDDEN, WARNED, Difference, differences
from ldm.apps.errors import UserError
from ldm.apps.locate import relative_to
from ldm.apps.paths import from_root
from ldm.data.lock import alone
from ldm.manifest import (
    FILE_NAME,
    atomic,
    is_leftover,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
)

CONFIG, INPUTS, HISTORY = "config.yaml", "inputs.json", "config_history.jsonl"
LOCK = "lock"
# What a sweep keeps beside the run: the job's output and its lock; on a cluster its script, number
# and exit code.
OUTPUT, STARTED = "output.log", "job.lock"
SCRIPT, QUEUED, ENDED = "job.sbatch", "job.json", "job.exit"

# How torchrun, Lightning's own launcher and SLURM tell a process its number.
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
# How torchrun and SLURM say that they start the same command once more.
_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")


def exit_code(directory: Path) -> int | None:
    """The exit code of a job on a cluster, as its script has left it; None before its end."""
    file = directory / ENDED
    text = file.read_text().strip() if file.is_file() else ""
    return int(text) if text.isdigit() else None


def is_first_process() -> bool:
    """Whether this process may create and move files (rank 0, or the only one)."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def begins_anew(config: DictConfig) -> bool:
    """Whether resume=never is meant: a launcher's restart goes on with what it restarts."""
    return config.resume == "never" and all(os.environ.get(n, "0") == "0" for n in _RESTARTS)


def open_run(config: DictConfig, inputs: dict[str, dict[str, str]]) -> bool:
    """Create or take up ``config.run``; False when that run is already finished.

    ``inputs`` are what it is made from. UserError naming what differs when the directory belongs
    to another configuration, or to inputs that have been made anew since; what may differ is
    printed and kept in ``config_history.jsonl``. Only the first process writes; all come to the
    same answer.
    """
    directory = Path(config.run)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"run={directory} is a file; give the name of a directory.")
    written = directory / CONFIG
    begun = directory.is_dir() and any(map(_is_of_a_run, directory.iterdir()))
    if begun and begins_anew(config):
        if is_first_process():
            shutil.move(directory, aside := unused_name(directory))
            directory.mkdir()
            for name in (LOCK, OUTPUT, STARTED, SCRIPT, QUEUED):  # still held, or written to
                if (aside / name).exists():
                    (aside / name).rename(directory / name)
            print(f"resume=never: the earlier run is now {aside}")
    elif begun:
        if is_first_process():
            _take_up(directory, config, inputs)
        reached = _reached(directory)
        if reached is not None:
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
        write_json(directory / INPUTS, without_credentials(inputs))
        with atomic(written) as temporary:
            temporary.write_text(OmegaConf.to_yaml(from_root(config), resolve=True))
    return True


def _is_of_a_run(path: Path) -> bool:
    """Whether a file says that a run began here; its settings alone do not."""
    others = (CONFIG, INPUTS, LOCK, OUTPUT, STARTED, SCRIPT, QUEUED, ENDED)
    return path.name not in others and not is_leftover(path)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """The run's directory, made where it is not yet, for one command at a time.

    ValueError where another trains in it. Other processes than the first hold nothing.
    """
    if not is_first_process() or directory.is_file():
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    lock = directory / LOCK
    with alone(lock, f"{directory} is being trained by another process; wait for it, or stop it."):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            with suppress(OSError):
                directory.rmdir()  # where nothing came of it


def sign(
    directory: Path,
    config: DictConfig,
    inputs: Mapping[str, dict[str, str]],
    facts: Mapping[str, Any],
) -> None:
    """Write the manifest of a run, or of a model that it leaves on its way."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    write_manifest(
        directory,
        kind=f"run_{config.stage}",
        settings=without_credentials(
            {k: v for k, v in settings.items() if k not in ("run", "logger")}
        ),
        inputs={name: relative_to(value, directory) for name, value in inputs.items()},
        facts=facts,
    )


def unused_name(directory: Path) -> Path:
    """``directory`` with .1, .2, ... appended: the first that does not exist."""
    number = 1
    while (aside := directory.parent / f"{directory.resolve().name}.{number}").exists():
        number += 1
    return aside


def _take_up(directory: Path, config: DictConfig, inputs: dict[str, dict[str, str]]) -> None:
    """Print and record which settings are others now; UserError where the run may not go on so."""
    if not (directory / CONFIG).is_file():
        raise UserError(
            f"run={directory} holds other files and no run of ldm; choose another run=."
        )
    found = differences(_plain(OmegaConf.load(directory / CONFIG)), _plain(from_root(config)))
    step, finished = last_step(directory), _reached(directory)
    if finished is None and step > config.max_steps:
        raise UserError(
            f"{directory} has reached step {step}, which is beyond max_steps={config.max_steps}. "
            f"Give max_steps={step} to end it there, more to go on, or another run=."
        )
    over = max(step, finished or 0) >= config.max_steps
    _refuse([d for d in found if d.kind == FORBIDDEN or (over and d.kind == WARNED)], directory)
    _refuse_other_inputs(directory, inputs)
    if not found or over:
        return
    print(f"{directory} is taken up at step {step} with other settings:")
    for difference in found:
        print(f"  {difference.kind:8} {difference}")
    if any(d.kind == WARNED for d in found):
        print(f"  from step {step} on it learns otherwise than with the earlier settings.")
    changes = {d.key: {"class": d.kind, "before": d.before, "now": d.now} for d in found}
    with open(directory / HISTORY, "a") as file:
        file.write(json.dumps({"step": step, "changes": without_credentials(changes)}) + "\n")


def _refuse(refused: list[Difference], directory: Path) -> None:
    if not refused:
        return
    shown = "; ".join(str(difference) for difference in refused[:8])
    more = f" and {len(refused) - 8} more" if len(refused) > 8 else ""
    if all(difference.kind == WARNED for difference in refused):
        raise UserError(
            f"{directory} is finished, so other settings would change nothing ({shown}{more}). "
            "Give a larger max_steps= to go on with them, another run=, or resume=never to start "
            "anew (the old directory is moved aside)."
        )
    raise UserError(
        f"{directory} belongs to a run with other settings ({shown}{more}). Give the same "
        "settings to go on, another run=, or resume=never to start anew (the old directory "
        "is moved aside)."
    )


def _refuse_other_inputs(directory: Path, inputs: dict[str, dict[str, str]]) -> None:
    made_from = read_json(directory / INPUTS) if (directory / INPUTS).is_file() else {}
    for name, entry in made_from.items():
        found = inputs.get(name, {}).get("fingerprint")
        if found != entry["fingerprint"]:
            raise UserError(
                f"{directory} was trained on {name} with the fingerprint {entry['fingerprint']}, "
                f"but those at {entry['path']} have been made anew (now {found}). Train again with "
                "resume=never (the old directory is moved aside), or with another run=."
            )


def _plain(config: Any) -> dict[str, Any]:
    found = OmegaConf.to_container(config, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def _reached(directory: Path) -> int | None:
    """The step at which a run ended, None while it has not."""
    if not (directory / FILE_NAME).is_file():
        return None
    return int(read_manifest(directory).facts["step"])


def last_step(directory: Path) -> int:
    """The step of the newest checkpoint, 0 without one."""
    names = [path.stem for path in (directory / "checkpoints").glob("step_*")]
    return max((int(n) for name in names if (n := name.removeprefix("step_")).isdigit()), default=0)
