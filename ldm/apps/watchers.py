"""Everything that watches a training run, in the order in which it acts after a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.build import device_of
from ldm.apps.dumps import Dumps
from ldm.apps.first_cause import FAILURE, FirstCause
from ldm.apps.loggers import backends, run_of
from ldm.apps.planning.in_training import flops_per_image, peak_flops
from ldm.apps.progress import TrainingProgress
from ldm.apps.run_directory import is_first_process, sign
from ldm.apps.slim_models import SlimModels
from ldm.apps.stages.assembly import Assembly
from ldm.apps.training_data import HeldOutBlocks
from ldm.callbacks.bad_samples import BadSamples
from ldm.callbacks.checkpoint import Checkpoint
from ldm.callbacks.evaluation import Evaluation
from ldm.callbacks.every import Every
from ldm.callbacks.gan_watchdog import GanWatchdog
from ldm.callbacks.interruption import Interruption
from ldm.callbacks.loggers.backend import Backend
from ldm.callbacks.loggers.follower import Follower
from ldm.callbacks.metrics_log import JsonlLogger, MetricsLog
from ldm.callbacks.patience import Patience
from ldm.callbacks.rows import FILE as ROWS
from ldm.callbacks.same_weights import SameWeights
from ldm.callbacks.sample_grid import SampleGrid
from ldm.callbacks.skipped_steps import SkippedSteps
from ldm.callbacks.together import Together
from ldm.callbacks.validation import Validation
from ldm.tasks.latent_health import HalfPrecision
from ldm.tasks.latent_pictures import LATENT_COLUMNS, LATENT_ROWS


@dataclass(frozen=True)
class Watchers:
    """The callbacks of a run, and those of them that are asked afterwards or have a state."""

    callbacks: list[Any]
    checkpoint: Checkpoint
    first_cause: FirstCause
    patience: Patience
    with_state: dict[str, Any]  # by the names under which a checkpoint holds it
    backends: dict[str, Backend]  # what shows the run, by name


def watch(
    config: DictConfig,
    assembly: Assembly,
    inputs: dict[str, dict[str, str]],
    interruption: Interruption,
    record: Mapping[str, Any],
) -> Watchers:
    """The callbacks of a run; ``inputs`` are what it is made from, for models on its way.

    ``record`` of this sitting goes into checkpoints.
    """
    run = Path(config.run)
    bad_samples = BadSamples(run / "bad_samples.jsonl", max_fraction=config.data.max_bad_fraction)
    patience = Patience(collective_timeout_seconds=config.collective_timeout_seconds)
    validation = Validation(HeldOutBlocks(assembly, config, see=bad_samples.see), patience)
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
        flops_per_image=flops_per_image(config),
        peak_flops=peak_flops(config),
    )
    with_state["metrics_log"] = metrics_log
    evaluation = None
    if assembly.evaluated is not None and config.evaluate_every is not None:
        evaluated = assembly.evaluated()
        with_state["evaluation"] = evaluation = Evaluation(
            evaluated.note,
            evaluated.conclude,
            lasting=evaluated.lasting,
            changing=evaluated.changing,
            path=run / "evaluation.json",
            patience=patience,
            metrics_log=metrics_log,
            beside=device_of(config.accelerator).type == "cuda",
        )
    if (scale := assembly.task.trained[assembly.task.product].loss_scale) is not None:
        with_state["loss_scale"] = scale
    if config.stage == "autoencoder":
        with_state["half_precision"] = HalfPrecision(assembly.task.autoencoder)
    shown_by = backends(config)
    with_state |= {f"logger_{name}": backend for name, backend in shown_by.items()}
    checkpoint = Checkpoint(
        run / "checkpoints",
        keep=config.keep_checkpoints,
        every_steps=config.checkpoint_every,
        patience=patience,
        watchers=with_state,
        record=record,
    )
    first_cause = FirstCause(run / FAILURE, finish=checkpoint.wait)
    same = SameWeights()
    callbacks: list[Any] = [first_cause, patience, same]
    if config.compare_ranks_every is not None:  # before a checkpoint is written of what differs
        callbacks.append(Every(config.compare_ranks_every, same, when_stopped=True))
    callbacks += [
        bad_samples,
        metrics_log,  # before the checkpoint, which holds its state
        Every(config.validate_every, validation, when_stopped=False),
    ]
    sheets = (
        (assembly.draw, "samples", assembly.rows, assembly.columns, assembly.prompts),
        (assembly.draw_latents, "samples/latents", LATENT_ROWS, LATENT_COLUMNS, ()),
    )
    for draw, name, rows, width, captions in sheets:
        if draw is not None:
            grid = SampleGrid(
                draw,
                run / name,
                rows=rows,
                columns=width,
                patience=patience,
                name=name,
                captions=captions,
            )
            callbacks.append(Every(config.validate_every, grid, when_stopped=False))
    if evaluation is not None:
        callbacks += [Every(config.evaluate_every, evaluation, when_stopped=False), evaluation]
    if config.models_every is not None:
        models = SlimModels(
            assembly,
            run / "models",
            every_steps=config.models_every,
            keep=config.keep_models,
            sign=partial(sign, config=config, inputs=inputs),
        )
        callbacks.append(Every(config.models_every, models, when_stopped=False))
    callbacks += [
        Every(config.checkpoint_every, checkpoint, when_stopped=True),
        checkpoint,  # at the end waits for what is under way, with signals still caught
        interruption,
        TrainingProgress(f"{config.stage} ({run})", config.max_steps, metrics_log),
        metrics_log.wait,
    ]
    together = Together(callbacks)
    return Watchers([together], checkpoint, first_cause, patience, with_state, shown_by)


def open_loggers(
    config: DictConfig, assembly: Assembly, start_step: int, backends: Mapping[str, Backend]
) -> list[Any]:
    """The loggers of a run that begins or goes on at ``start_step``; only rank 0's are followed."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    run = run_of(Path(config.run), settings)
    followers = [
        Follower(name, backend, run, start_step=start_step, captions=assembly.prompts)
        for name, backend in backends.items()
        if is_first_process()
    ]
    path = run.directory / ROWS
    return [JsonlLogger(path, start_step=start_step, followers=followers)]
