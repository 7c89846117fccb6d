"""What a run needs of the machine: devices, their memory, room on the disk."""

from collections.abc import Iterator
from pathlib import Path

import torch
from omegaconf import DictConfig

from ldm.apps.build import device_of
from ldm.apps.diagnoses.compiling import missing
from ldm.apps.loggers import require_loggers
from ldm.apps.machine import memory_bytes
from ldm.apps.planning.estimate import Footprint, too_large
from ldm.apps.processes import require_devices
from ldm.apps.report.numbers import size_in_words
from ldm.apps.rules.case import Case
from ldm.apps.run_directory import begins_anew
from ldm.disk import free_bytes


def gpus(case: Case) -> None:
    """As many GPUs as are asked for."""
    require_devices(device_of(case.config.accelerator).type, case.config.devices)


def compiler(case: Case) -> Iterator[str]:
    """What compile=true compiles with."""
    if case.config.compile:
        on_gpu = case.config.accelerator != "cpu" and torch.cuda.is_available()
        for lack, remedy in missing(on_gpu=on_gpu).items():
            yield f"compile=true, but there is {lack}. {remedy} Or set compile=false."


def memory(case: Case) -> Iterator[str]:
    """Room on the GPU for all that training takes; in a computer's own memory, for what lasts."""
    config = case.config
    if case.footprint is None:
        return
    found = case.footprint.memory
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
    config, takes = case.config, case.footprint
    if takes is None:
        return
    run = Path(str(config.run))
    there = 0 if begins_anew(config) else _bytes_there(run)  # an earlier run is kept beside it
    needed, free = max(0.0, disk_bytes(config, takes) - there), free_bytes(run)
    if free < needed:
        yield (
            f"run={run} needs about {size_in_words(needed)} for checkpoints and models"
            + (f" beside the {size_in_words(there)} that it has" if there else "")
            + f", and {size_in_words(free)} are free; choose another disk, fewer keep_checkpoints "
            "or keep_models."
        )


def disk_bytes(config: DictConfig, takes: Footprint) -> float:
    """Of all checkpoints that are there at once, and all models."""
    models = config.max_steps // config.models_every if config.models_every else 0
    models = min(models, config.keep_models or models)
    checkpoints = config.keep_checkpoints + 1
    return takes.checkpoint * checkpoints + takes.trained * models + takes.model


def _bytes_there(run: Path) -> int:
    """Of the checkpoints and models that a run has already."""
    folders = [run / name for name in ("checkpoints", "models", "model")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
