"""`ldm logs show | replay`: what a run has logged, as a table or in another program."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.compose import compose
from ldm.apps.errors import UserError, suggestion
from ldm.apps.loggers import require_loggers, run_of
from ldm.apps.report.numbers import number
from ldm.callbacks.loggers.backend import Backend
from ldm.callbacks.loggers.follower import Follower
from ldm.callbacks.rows import FILE, Row, read_jsonl

# Of what training logs at every line: the heads of columns, where there is something below.
_HEADS = {
    "step": "step",
    "images_seen": "images",
    "train/loss": "loss",
    "train/gradient_norm": "gradient",
    "train/autoencoder_gradient_norm": "gradient",
    "learning_rate": "lr",
    "images_per_second": "images/s",
    "mfu": "mfu",
    "data_wait_fraction": "waiting",
    "peak_memory_gb": "GB",
    "skipped_steps": "skipped",
}


def logs(words: Sequence[str], *, config_dir: str | None) -> int:
    """``words`` are show or replay, perhaps the run's directory, and settings key=value."""

    def is_plain(word: str) -> bool:  # a job of a sweep has = in its directory's name
        return ("=" not in word and word[:1] not in "-~") or Path(word).is_dir()

    plain = [word for word in words if is_plain(word)]
    settings = [word for word in words if word not in plain]
    action, *named = plain or ["show"]
    actions: dict[str, Callable[[DictConfig], int]] = {"show": _show, "replay": _replay}
    if action not in actions:
        raise UserError(f"`ldm logs {action}`: {suggestion(action, actions)}")
    if len(named) > 1:
        raise UserError(f"`ldm logs {action}` takes one run, not {len(named)}.")
    settings += [f"run={run}" for run in named]
    config = compose("logs", settings, config_dir=config_dir)
    if not (Path(config.run) / FILE).is_file():
        raise UserError(
            f"{config.run} has no {FILE}: give the directory of a training run, "
            "for a recipe one of those in it (e.g. runs/demo/diffusion)."
        )
    return actions[action](config)


def _show(config: DictConfig) -> int:
    """The last rows as a table of what training logs, and the last number of everything else."""
    rows = read_jsonl(Path(config.run) / FILE)
    trained = [row for row in rows if "images_per_second" in row]
    columns = [name for name in _HEADS if any(name in row for row in trained)]
    table = [
        [number(row[name]) if name in row else "" for name in columns]
        for row in trained[-config.last :]
    ]
    for line in ([_HEADS[name] for name in columns], *table):
        print("  ".join(f"{cell:>8}" for cell in line))
    last: dict[str, tuple[int, Any]] = {}
    for row in rows:
        last |= {name: (row["step"], value) for name, value in row.items()}
    print()
    for name, (step, value) in sorted(last.items()):
        if name not in columns:
            print(f"{name:32} {number(value):>12}   (step {step})")
    return 0


def _replay(config: DictConfig) -> int:
    """Hand all that the run has logged to each logger, as a new run there."""
    from ldm.apps.run_directory import held

    chosen = require_loggers(config)  # all, before the first of them is brought anything
    if not chosen:
        raise UserError("where to? logger=wandb, tensorboard, csv, or several: logger=[wandb,csv]")
    directory = Path(config.run)
    rows = read_jsonl(directory / FILE)
    with held(directory):  # whoever trains there brings them up to date itself
        for name, backend in chosen.items():
            _replay_in(name, backend, directory, rows)
    return 0


def _replay_in(name: str, backend: Backend, directory: Path, rows: Sequence[Row]) -> None:
    from ldm.apps.report.stages import PROMPTS, configuration

    (directory / "loggers" / f"{name}.json").unlink(missing_ok=True)  # it begins anew
    prompts = directory / "samples" / PROMPTS
    captions = json.loads(prompts.read_text()) if prompts.is_file() else []
    last = max((row["step"] for row in rows), default=0)
    run = run_of(directory, configuration(directory))
    follower = Follower(name, backend, run, start_step=last, captions=captions)
    try:
        follower.bring_all()
    except Exception as error:
        raise UserError(f"{name}: {type(error).__name__}: {error}") from error
    print(f"{directory}: {len(rows)} rows up to step {last} are in {name}")
