"""Everything that watches a training run, in the order in which it acts after a step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.build import build
from ldm.apps.dumps import Dumps
from ldm.apps.progress import TrainingProgress
from ldm.apps.stages.assembly import Assembly
from ldm.apps.training_data import HeldOutBlocks
from ldm.callbacks.bad_samples import BadSamples
from ldm.callbacks.checkpoint import Checkpoint
from ldm.callbacks.every import Every
from ldm.callbacks.gan_watchdog import GanWatchdog
from ldm.callbacks.interruption import Interruption
from ldm.callbacks.metrics_log import JsonlLogger, MetricsLog
from ldm.callbacks.sample_grid import SampleGrid
from ldm.callbacks.skipped_steps import SkippedSteps
from ldm.callbacks.validation import Validation


@dataclass(frozen=True)
class Watchers:
    """The callbacks of a run, and those of them that are asked afterwards or have a state."""

    callbacks: list[Any]
    validation: Validation
    interruption: Interruption
    with_state: dict[str, Any]  # by the names under which a checkpoint holds it


def watch(config: DictConfig, assembly: Assembly) -> Watchers:
    """The callbacks of a run."""
    run = Path(config.run)
    bad_samples = BadSamples(run / "bad_samples.jsonl", max_fraction=config.data.max_bad_fraction)
    validation = Validation(HeldOutBlocks(assembly, config, see=bad_samples.see))
    interruption = Interruption()
    skipped_steps = SkippedSteps(Dumps(config, assembly), max_in_a_row=config.max_skipped_in_a_row)
    readers: list[Any] = [skipped_steps]
    with_state: dict[str, Any] = {}
    if config.stage == "autoencoder" and config.discriminator:
        watchdog = GanWatchdog(assembly.task, config.gan_watchdog)
        readers.append(watchdog)
        with_state["gan_watchdog"] = watchdog
    metrics_log = MetricsLog(
        every_steps=config.log_every,
        global_batch=config.global_batch,
        workers=config.data.workers,
        readers=readers,
    )
    with_state["metrics_log"] = metrics_log
    if (scale := assembly.task.trained[assembly.task.product].loss_scale) is not None:
        with_state["loss_scale"] = scale
    checkpoint = Checkpoint(run / "checkpoints", keep=config.keep_checkpoints, watchers=with_state)
    callbacks: list[Any] = [
        bad_samples,
        metrics_log,  # before the checkpoint, which holds its state
        Every(config.validate_every, validation, when_stopped=False),
    ]
    if assembly.draw is not None:
        grid = SampleGrid(assembly.draw, run / "samples", columns=assembly.columns)
        callbacks.append(Every(config.validate_every, grid, when_stopped=False))
    callbacks += [
        Every(config.checkpoint_every, checkpoint, when_stopped=True),
        interruption,
        TrainingProgress(f"{config.stage} ({run})", config.max_steps, metrics_log),
        metrics_log.wait,
    ]
    return Watchers(callbacks, validation, interruption, with_state)


def open_loggers(config: DictConfig, start_step: int) -> list[Any]:
    """The loggers of a run that begins or goes on at ``start_step``."""
    own = JsonlLogger(Path(config.run) / "metrics.jsonl", start_step=start_step)
    return [own, *(build(node) for node in (config.logger or {}).values())]
