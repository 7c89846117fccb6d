"""What a run needs of the machine: devices, their memory, room on the disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from ldm.apps.build import device_of
from ldm.apps.diagnoses.compiling import missing
from ldm.apps.loggers import require_loggers
from ldm.apps.machine import memory_bytes
from ldm.apps.planning.estimate import too_large
from ldm.apps.planning.memory import size_in_words
from ldm.apps.rules.case import Case


def gpus(case: Case) -> Iterator[str]:
    """As many GPUs as are asked for."""
    config = case.config
    if config.accelerator == "gpu" and (found := torch.cuda.device_count()) < config.devices:
        yield (
            f"{config.devices} GPU(s) asked for and {found} found; set devices={max(found, 1)} "
            "or trainer=cpu."
        )


def compiler(case: Case) -> Iterator[str]:
    """What compile=true compiles with."""
    if case.config.compile:
        on_gpu = case.config.accelerator != "cpu" and torch.cuda.is_available()
        for lack, remedy in missing(on_gpu=on_gpu).items():
            yield f"compile=true, but there is {lack}. {remedy} Or set compile=false."


def memory(case: Case) -> Iterator[str]:
    """Room on the GPU for all that training takes; in a computer's own memory, for what lasts."""
    config, found = case.config, case.memory
    if found is None:  # as another rule says
        return
    if (sentence := too_large(config, found)) is not None:
        yield sentence
    if device_of(config.accelerator).type != "cpu":
        return
    lasting = sum(size for part, size in found.items() if part != "activations")
    needed, there = lasting * config.devices, memory_bytes()
    if needed >= there:
        yield (
            f"weights, gradients, the optimizer's moments and their average take "
            f"{size_in_words(needed)}, before any activation, and this machine has "
            f"{size_in_words(there)}. Choose a smaller network (backbone=, channels)"
            + (", ema_decay=null" if config.ema_decay is not None else "")
            + ", or a larger machine."
        )


def loggers(case: Case) -> None:
    """The programs that are to show the run."""
    require_loggers(case.config)


def disk(case: Case) -> Iterator[str]:
    """Room for checkpoints and models."""
    run = Path(str(case.config.run))
    parent = next(p for p in [run, *run.absolute().parents] if p.exists())
    needed, free = needed_bytes(case), shutil.disk_usage(parent).free
    if free < needed:
        yield (
            f"run={run} needs about {needed / 1e6:,.0f} MB for checkpoints and models, and "
            f"{free / 1e6:,.0f} MB are free; choose another disk, fewer keep_checkpoints or "
            "keep_models."
        )


def needed_bytes(case: Case) -> int:
    """Of all checkpoints that are there at once, and all models."""
    config = case.config
    models = config.max_steps // config.models_every if config.models_every else 0
    models = min(models, config.keep_models or models) + 1  # and model/
    checkpoint = checkpoint_bytes(case)
    return checkpoint * (config.keep_checkpoints + 1) + checkpoint // 4 * models


def checkpoint_bytes(case: Case) -> int:
    """Weights, two moments and the average, in fp32."""
    return 16 * case.num_parameters
