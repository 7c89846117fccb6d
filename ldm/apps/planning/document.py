"""A plan as plain values, to be written as JSON."""

from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig

from ldm.apps.planning import memory, scaling
from ldm.apps.planning.estimate import Estimate
from ldm.apps.planning.flops import CONVENTION
from ldm.apps.planning.gpus import Gpu
from ldm.apps.planning.measured import Measured
from ldm.apps.planning.schedule import Row

Document = dict[str, Any]


def of_training(
    title: str, found: Estimate, rows: list[Row], rate: str | None, measured: Measured | None
) -> Document:
    """One training: what it is, and how long it takes on each number of GPUs."""
    config, flops = found.config, found.flops
    return {
        "title": title,
        "stage": config.stage,
        "size_px": config.size,
        "steps": config.max_steps,
        "global_batch": config.global_batch,
        "images_seen": config.max_steps * config.global_batch,
        "precision": config.precision,
        "train_flops_per_image": flops.training,
        "forward_flops_per_image": flops.forward,
        "recomputed_flops_per_image": flops.recomputed,
        "frozen_flops_per_image": flops.beside,
        "once_flops_per_image": flops.before,
        "step_flops_per_image": flops.step,
        "train_flops": flops.training * config.max_steps * config.global_batch,
        "parameters": found.parameters,
        "memory_bytes": found.memory | {"total": sum(found.memory.values())},
        "activation_bytes_per_image": found.held.per_picture,
        "checkpoint_bytes": found.checkpoint_bytes,
        "model_bytes": found.model_bytes | {"total": sum(found.model_bytes.values())},
        "cache_bytes_per_image": (found.cache_bytes_per_image or {}).get("ids"),
        "cache_bytes_per_image_with_features": (found.cache_bytes_per_image or {}).get("features"),
        "rate": rate,
        "measured": None if measured is None else asdict(measured),
        "scaling": [_of_row(row) for row in rows],
        "assumptions": list(found.companions.said),
    }


def of_plan(
    trainings: list[Document],
    totals: list[Row],
    settings: DictConfig,
    *,
    images: int | None,
    gpu: Gpu | None,
    gpus: int,
) -> Document:
    """The whole: the first training's numbers, and the sums over all of them.

    ``images`` are those of the data, where that is known.
    """
    one = trainings[0]
    each = one["cache_bytes_per_image"]
    row = next((row for row in totals if row.gpus == gpus and row.refused is None), None)
    measured = one["measured"]
    rate = None if row is None else row.images_per_second
    hours = None if row is None else row.hours
    if not totals and measured is not None:  # on a device of which no more is known
        hours = sum(_alone_hours(training) for training in trainings)
        rate = sum(training["images_seen"] for training in trainings) / hours / 3600
    return one | {
        "convention": CONVENTION,
        "gpu": None if gpu is None else gpu.title,
        "gpus": gpus,
        "images": images,
        "cache_bytes": None if images is None or each is None else images * each,
        "images_per_second": rate,
        "hours": hours,
        "gpu_hours": None if row is None else row.gpu_hours,
        "cost": None if row is None else row.cost,
        "price_per_gpu_hour": settings.price_per_gpu_hour,
        "scaling": [_of_row(row) for row in totals],
        "trainings": trainings,
        "assumptions": _assumptions(trainings, gpu),
    }


def _alone_hours(training: Document) -> float:
    measured = training["measured"]
    return training["images_seen"] / (measured["images"] / measured["seconds"]) / 3600


def _assumptions(trainings: list[Document], gpu: Gpu | None) -> list[str]:
    found = [CONVENTION]
    for training in trainings:
        found += training["assumptions"]
        found += [training["rate"]] if training["rate"] else []
    found += memory.ASSUMPTIONS
    if gpu is not None:
        found += [f"{gpu.title}: {gpu.source}", *scaling.ASSUMPTIONS]
    return list(dict.fromkeys(found))


def _of_row(row: Row) -> Document:
    if row.refused is not None:
        return {"gpus": row.gpus, "refused": row.refused}
    found = asdict(row)
    del found["refused"]
    return {name: value for name, value in found.items() if value is not None}
