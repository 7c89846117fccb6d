"""`ldm train`: one stage, from its configuration to a finished model folder."""

import importlib
import logging
import os
import signal
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig

from ldm.apps import exit_codes
from ldm.apps.closing import closing, said
from ldm.apps.durations import seconds_of
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, part_input, parts_at
from ldm.apps.process_start import BEGUN
from ldm.apps.report.page import write_report
from ldm.apps.report.stages import PROMPTS
from ldm.apps.rules import shares_of
from ldm.apps.run_directory import begins_anew, is_first_process, open_run, sign
from ldm.apps.stages.assembly import Assembly
from ldm.apps.trainer import make_trainer
from ldm.apps.training_data import TrainingData, buckets_in_words
from ldm.apps.watchers import open_loggers, watch
from ldm.callbacks.checkpoint import Checkpoint, restore
from ldm.callbacks.interruption import Interruption
from ldm.callbacks.metrics_log import read_jsonl
from ldm.data.order import Share
from ldm.interop.condition_encoders import CLASS_ENCODER
from ldm.manifest import fingerprint, read_manifest, remove_leftovers, write_json
from ldm.nn.half import halve_weights
from ldm.tasks.loss_scale import LossScale


def train(config: DictConfig) -> int:
    """Run the stage; its exit code: finished (now or before), stopped, or interrupted."""
    with Interruption(config.stop_signals, _seconds_left(config)) as interruption:
        return _train(config, interruption)


def _train(config: DictConfig, interruption: Interruption) -> int:
    run = Path(config.run)
    stage = importlib.import_module(f"ldm.apps.stages.{config.stage}")
    inputs = stage.inputs(config)
    if not open_run(config, inputs):
        if is_first_process():
            reached = read_manifest(run).facts["step"]
            print(f"{run} is finished (step {reached}): model in {run}/model")
        return exit_codes.FINISHED
    if is_first_process():
        remove_leftovers(run)
    quiet()
    assembly = assembled(config)
    task = assembly.task
    shares = shares_of(config, assembly.batches.sizes_px)
    if config.init is not None:
        inputs = inputs | {"init": _init_input(config.init, assembly.part)}
    if assembly.nothing_to_learn is not None:
        if is_first_process():
            print(f"{run}: {assembly.nothing_to_learn}")
        _finish(config, assembly, inputs, {})
        return exit_codes.FINISHED
    if assembly.prompts and is_first_process():
        write_json(run / "samples" / PROMPTS, assembly.prompts)
    watchers = watch(config, assembly, inputs, interruption)
    start = 0
    if not begins_anew(config):  # then, even where the first process has yet to move the old one
        mmap = config.strategy == "fsdp"
        start = restore(run / "checkpoints", task, watchers.with_state, mmap=mmap)
    trainer = make_trainer(config, watchers.callbacks, open_loggers(config, start))
    _announce(config, assembly, shares, start)
    try:
        trainer.fit(task, TrainingData(assembly, config, start))
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # a second Ctrl-C, after Lightning
            raise error.__context__ from error
        raise
    except Exception as error:
        if trainer.world_size == 1:
            raise
        return watchers.first_cause.tell(error)
    if interruption.signal_number is not None and task.step < config.max_steps:
        if watchers.checkpoint.failure is not None:
            return _interrupted_in_vain(watchers.checkpoint, task.step)
        return _stopped(trainer, interruption.signal_number, start, task.step)
    _finish(config, assembly, inputs, watchers.validation.latest or _last_validation(run))
    if (reason := watchers.checkpoint.failure) is not None:
        print(f"its last checkpoint is missing ({reason}): only a larger max_steps needs that.")
    return exit_codes.FINISHED


def _seconds_left(config: DictConfig) -> float | None:
    """How long this process may still go on, counted from its start; None: as long as it likes."""
    if config.max_time is None:
        return None
    return BEGUN + seconds_of(config.max_time) - time.monotonic()


def _stopped(trainer: pl.Trainer, number: int, start: int, step: int) -> int:
    """The exit code of a run that was told to stop, with a word on it from the first process."""
    names = {signal.SIGINT: "Ctrl-C", signal.SIGALRM: "max_time"}
    if trainer.is_global_zero:
        name = names.get(signal.Signals(number), signal.Signals(number).name)
        saved = "which is saved" if step > start else "where it began"
        print(f"interrupted at step {step} ({name}), {saved}; the same command goes on.")
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if isinstance(environment, LightningEnvironment) and trainer.local_rank > 0:
        # Lightning, which started this process, kills the first one after any other code.
        return exit_codes.FINISHED
    return exit_codes.INTERRUPTED if number == signal.SIGINT else exit_codes.STOPPED


def _interrupted_in_vain(checkpoint: Checkpoint, step: int) -> int:
    """Say from where the same command goes on when the last steps could not be saved; 1."""
    newest = checkpoint.newest()
    print(
        f"interrupted at step {step}, which could not be saved ({checkpoint.failure}); the same "
        + (f"command goes on from step {newest}." if newest else "command begins at step 0."),
        file=sys.stderr,
    )
    return 1  # anything but what asks to be started again


def assembled(config: DictConfig) -> Assembly:
    """The stage's task and data as they are at step 0."""
    torch.manual_seed(config.seed)  # initial weights: the same on every rank
    stage = importlib.import_module(f"ldm.apps.stages.{config.stage}")
    (share,) = shares_of(config, [(config.size, config.size)])
    assembly: Assembly = stage.assemble(config, share)
    if config.init is not None:
        _initialise(assembly, config.init)
    if config.precision == "64-true":
        # Lightning would only after the checkpoint is read, and round its moments.
        assembly.task.double()
    if weights := {"bf16-true": torch.bfloat16, "16-true": torch.float16}.get(config.precision):
        for part in assembly.task.trained.values():
            halve_weights(part.network, weights)
    if config.precision in ("16-mixed", "16-true"):
        scale = LossScale()
        for part in assembly.task.trained.values():
            part.loss_scale = scale
    return assembly


def _initialise(assembly: Assembly, source: str) -> None:
    """Start from the weights of another run, averages included."""
    task = assembly.task
    try:
        assembly.initialise(model_folder(source, assembly.part))
    except RuntimeError as error:
        raise UserError(
            f"init={source} is of another architecture: {str(error).splitlines()[1].strip()}"
        ) from error
    product = task.trained[task.product]
    if product.ema is not None:
        product.ema.restart(product.network)


def _announce(config: DictConfig, assembly: Assembly, shares: list[Share], start: int) -> None:
    if not is_first_process():
        return
    task = assembly.task
    count = sum(p.numel() for p in task.trained[task.product].network.parameters())
    cut = f"{shares[0].micro_batch} x {shares[0].accumulate} accumulated"
    print(
        f"{config.run}: stage {config.stage}, {task.product} of {count:,} parameters; global batch "
        f"{config.global_batch} = {shares[0].world_size} process(es) x "
        + (cut if len(shares) == 1 else "what a bucket allows")
        + f"; lr {config.lr:g}, {config.precision}"
        + (f"; going on at step {start}" if start else ""),
    )
    left = _seconds_left(config)
    if left is not None:
        print(f"max_time={config.max_time}: stops in {timedelta(seconds=max(0, round(left)))}")
    for line in buckets_in_words(assembly.batches, shares):
        print(line)
    sys.stdout.flush()


def _last_validation(run: Path) -> dict[str, float]:
    """What was logged, for a run that was killed after its last step and before its end."""
    found: dict[str, float] = {}
    for row in read_jsonl(run / "metrics.jsonl"):
        found = {k: v for k, v in row.items() if k.startswith("val/")} or found
    return found


def _finish(
    config: DictConfig,
    assembly: Assembly,
    inputs: dict[str, dict[str, str]],
    facts: dict[str, float],
) -> None:
    """Write the model folder with the averaged weights, then the manifest that says so.

    All processes call it, since each may hold a part of the weights; the first writes.
    """
    run, task = Path(config.run), assembly.task
    with task.trained[task.product].exported():
        if is_first_process():
            assembly.write_model(run / "model")
    if not is_first_process():
        return
    line, more = closing(config.stage, read_jsonl(run / "metrics.jsonl"), config)
    sign(run, config, inputs, {"step": task.step, **facts, **more})
    write_report(run)
    numbers = ", ".join(f"{k} {v:.4g}" for k, v in sorted(facts.items()) if said(k))
    print(f"{run}: finished at step {task.step} ({numbers}); model in {run}/model", flush=True)
    if line:
        print(f"{run}: {line}", flush=True)


def quiet() -> None:
    """Lightning's own chatter says nothing a user of ldm needs."""
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning")


def _init_input(path: str, part: str) -> dict[str, str]:
    """Path and fingerprint of all that initial weights and the latents' scale are read from."""
    folder = model_folder(path, part)
    parts = parts_at(str(folder), (part, "vae", CLASS_ENCODER))
    found = {name: part_input(str(folder), name)["fingerprint"] for name in parts}
    return {"path": str(folder.resolve()), "fingerprint": fingerprint(found)}
