"""Everything that watches a training run, in the order in which it acts after a step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.build import build
from ldm.apps.first_cause import FirstCause
from ldm.apps.progress import TrainingProgress
from ldm.apps.report.stages import PROMPTS
from ldm.apps.run_directory import is_first_process
from ldm.apps.stages.assembly import Assembly
from ldm.apps.training_data import HeldOutBlocks
from ldm.callbacks.bad_samples import BadSamples
from ldm.callbacks.checkpoint import Checkpoint
from ldm.callbacks.every import Every
from ldm.callbacks.interruption import Interruption
from ldm.callbacks.metrics_log import JsonlLogger, MetricsLog
from ldm.callbacks.patience import Patience
from ldm.callbacks.same_weights import SameWeights
from ldm.callbacks.sample_grid import SampleGrid
from ldm.callbacks.validation import Validation
from ldm.manifest import write_json
from ldm.tasks.latent_pictures import LATENT_COLUMNS, LATENT_ROWS


@dataclass(frozen=True)
class Watchers:
    """Callbacks and loggers of a run, and those of them that are asked afterwards."""

    callbacks: list[Any]
    loggers: list[Any]
    validation: Validation
    interruption: Interruption
    first_cause: FirstCause


def watch(config: DictConfig, assembly: Assembly, start_step: int) -> Watchers:
    """The callbacks and loggers of a run that begins or goes on at ``start_step``."""
    run = Path(config.run)
    bad_samples = BadSamples(run / "bad_samples.jsonl", max_fraction=config.data.max_bad_fraction)
    patience = Patience(collective_timeout_seconds=config.collective_timeout_seconds)
    validation = Validation(HeldOutBlocks(assembly, config, see=bad_samples.see), patience)
    interruption = Interruption()
    checkpoint = Checkpoint(run / "checkpoints", keep=config.keep_checkpoints)
    first_cause = FirstCause(run / "failure.json", finish=lambda: None)  # nothing is under way
    callbacks: list[Any] = [first_cause, patience]
    if config.compare_ranks_every is not None:
        same = SameWeights()  # before a checkpoint is written of weights that are not
        callbacks += [same, Every(config.compare_ranks_every, same, when_stopped=True)]
    callbacks += [
        bad_samples,
        Every(config.validate_every, validation, when_stopped=False),
    ]
    if assembly.prompts and is_first_process():
        write_json(run / "samples" / PROMPTS, assembly.prompts)
    sheets = (
        (assembly.draw, "samples", assembly.rows, assembly.columns),
        (assembly.draw_latents, "samples/latents", LATENT_ROWS, LATENT_COLUMNS),
    )
    for draw, directory, rows, width in sheets:
        if draw is not None:
            grid = SampleGrid(draw, run / directory, rows=rows, columns=width, patience=patience)
            callbacks.append(Every(config.validate_every, grid, when_stopped=False))
    callbacks += [
        Every(config.checkpoint_every, checkpoint, when_stopped=True),
        interruption,
        # After the others, so that their time does not count as waiting for data.
        MetricsLog(
            every_steps=config.log_every,
            global_batch=config.global_batch,
            workers=config.data.workers,
        ),
        TrainingProgress(f"{config.stage} ({run})", config.max_steps),
    ]
    loggers = [JsonlLogger(run / "metrics.jsonl", start_step=start_step)]
    loggers += [build(node) for node in (config.logger or {}).values()]
    return Watchers(callbacks, loggers, validation, interruption, first_cause)
