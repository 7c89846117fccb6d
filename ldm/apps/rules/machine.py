"""What a run needs of the machine: devices, their memory, room on the disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from ldm.apps.diagnoses.compiling import missing
from ldm.apps.machine import memory_bytes
from ldm.apps.rules.case import Case

_GB = 1e9


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
    """Room for what each device holds, even without activations."""
    config = case.config
    needed = sum(case.memory.values())
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu:
        there, name = torch.cuda.get_device_properties(0).total_memory, "this GPU"
    elif config.accelerator == "gpu":
        return  # there is none yet, as ``gpus`` says
    else:
        there, name, needed = memory_bytes(), "this machine", needed * config.devices
    if needed < there:
        return
    remedies = ["a smaller network (backbone=, channels)"]
    if case.config.stage == "diffusion" and config.strategy != "fsdp":
        remedies.insert(0, "strategy=fsdp with more devices")
    if config.ema_decay is not None:
        remedies.append("ema_decay=null")
    yield (
        f"weights, gradients, the optimizer's moments and their average take {needed / _GB:,.1f} "
        f"GB, before any activation, and {name} has {there / _GB:,.1f} GB. Choose "
        f"{', or '.join(remedies)}, or a larger device."
    )


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
