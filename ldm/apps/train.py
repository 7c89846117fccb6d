"""`ldm train`: one stage, from its configuration to a finished model folder."""

import importlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, part_input, parts_at, relative_to
from ldm.apps.report.page import write_report
from ldm.apps.rules import shares_of
from ldm.apps.run_directory import is_first_process, open_run
from ldm.apps.stages.assembly import Assembly
from ldm.apps.trainer import make_trainer
from ldm.apps.training_data import TrainingData, buckets_in_words
from ldm.apps.watchers import watch
from ldm.callbacks.checkpoint import restore
from ldm.data.order import Share
from ldm.interop.condition_encoders import CLASS_ENCODER
from ldm.manifest import fingerprint, read_manifest, write_manifest
from ldm.nn.half import halve_weights

INTERRUPTED = 130  # exit code after Ctrl-C or a termination signal: saved, to be continued


def train(config: DictConfig) -> int:
    """Run the stage; 0 when it is finished (now or before), 130 when it was interrupted."""
    run = Path(config.run)
    stage = importlib.import_module(f"ldm.apps.stages.{config.stage}")
    inputs = stage.inputs(config)
    if not open_run(config, inputs):
        if is_first_process():
            reached = read_manifest(run).facts["step"]
            print(f"{run} is finished (step {reached}): model in {run}/model")
        return 0
    _quiet()
    torch.manual_seed(config.seed)  # initial weights: the same on every rank
    (share,) = shares_of(config, [(config.size, config.size)])
    assembly = stage.assemble(config, share)
    task = assembly.task
    shares = shares_of(config, assembly.batches.sizes_px)
    if config.init is not None:
        _initialise(assembly, config.init)
        inputs = inputs | {"init": _init_input(config.init, assembly.part)}
    if assembly.nothing_to_learn is not None:
        if is_first_process():
            print(f"{run}: {assembly.nothing_to_learn}")
        _finish(config, assembly, inputs, {})
        return 0
    if config.precision == "64-true":
        task.double()  # Lightning would only after the checkpoint is read, and round its moments
    # Anew, the directory is empty, even where the first process has not moved the old one yet.
    if weights := {"bf16-true": torch.bfloat16, "16-true": torch.float16}.get(config.precision):
        for part in task.trained.values():
            halve_weights(part.network, weights)
    start = 0
    if config.resume != "never":
        start = restore(run / "checkpoints", task, mmap=config.strategy == "fsdp")

    watchers = watch(config, assembly, start)
    trainer = make_trainer(config, watchers)
    _announce(config, assembly, shares, start)
    trainer.fit(task, TrainingData(assembly, config, start))
    if watchers.interruption.signal_number is not None and task.step < config.max_steps:
        if trainer.is_global_zero:
            print(f"interrupted at step {task.step}, which is saved; the same command goes on.")
        return INTERRUPTED
    _finish(config, assembly, inputs, watchers.validation.latest)
    return 0


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
    for line in buckets_in_words(assembly.batches, shares):
        print(line)
    sys.stdout.flush()


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
    settings: Any = OmegaConf.to_container(config, resolve=True)
    write_manifest(
        run,
        kind=f"run_{config.stage}",
        settings={k: v for k, v in settings.items() if k not in ("run", "logger")},
        inputs={name: relative_to(value, run) for name, value in inputs.items()},
        facts={"step": task.step, **facts},
    )
    write_report(run)
    numbers = ", ".join(f"{k} {v:.4g}" for k, v in sorted(facts.items()) if "bin" not in k)
    print(f"{run}: finished at step {task.step} ({numbers}); model in {run}/model", flush=True)


def _quiet() -> None:
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
