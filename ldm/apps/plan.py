"""`ldm plan`: what a training will take, counted and estimated before anything is spent."""

from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.apps.planning import document, schedule
from ldm.apps.planning.estimate import Estimate, cutting, estimate
from ldm.apps.planning.gpus import GPUS, Gpu, gpu_called, gpu_named, is_of_16_bits, reached_at
from ldm.apps.planning.measured import Measured
from ldm.apps.planning.request import Request, Training, request_of
from ldm.apps.planning.schedule import INSTEAD, Place, Rate, Row
from ldm.apps.planning.table import show
from ldm.manifest import write_json


def plan(words: Sequence[str], *, config_dir: str | None = None) -> int:
    """Print a plan of the trainings that the words describe, and write it where out= says."""
    request = request_of(words, config_dir=config_dir)
    settings = request.settings
    gpu = _gpu(settings, request.trainings)
    place = None if gpu is None else schedule.place_of(settings, gpu)
    made, of_trainings, images = [], [], settings.images
    for number, training in enumerate(request.trainings):
        found = _estimate(settings, training)
        measured = _measured(settings, found)
        rate = None if place is None else _rate(request, number, found, place, measured)
        rows: list[Row] = []
        if place is not None and rate is not None:
            rows = schedule.rows(found, place, rate, _counts(settings, request.trainings))
            of_trainings.append(rows)
        said = rate.said if rate is not None else str(measured) if measured is not None else None
        made.append(document.of_training(training.title, found, rows, said, measured))
        images = found.companions.images if images is None else images
    totals = schedule.total(of_trainings) if len(of_trainings) == len(made) else []
    if len(made) == 1 and of_trainings:
        totals = of_trainings[0]
    gpus = _headline(settings, request.trainings)
    whole = document.of_plan(made, totals, settings, images=images, gpu=gpu, gpus=gpus)
    show(whole)
    if settings.out is not None:
        write_json(Path(settings.out), whole)
        print(f"written to {settings.out}")
    return 0


def _estimate(settings: DictConfig, training: Training) -> Estimate:
    """Of one training; UserError where its network does what tensors without numbers cannot."""
    try:
        return estimate(
            training.config,
            experiment=training.experiment,
            latents_by=settings.latents_by,
            captions_by=settings.captions_by,
        )
    except ValueError:  # the user's mistakes
        raise
    except Exception as error:  # of whatever network
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"{training.title} cannot be planned: its network does not go through on torch's meta "
            f"device, whose tensors have no numbers ({said}). It may train all the same."
        ) from error


def _gpu(settings: DictConfig, trainings: list[Training]) -> Gpu | None:
    """The GPU whose rates count: the one named, or this machine's where it is known."""
    if settings.gpu is not None:
        gpu = gpu_named(settings.gpu)
        if settings.measure and gpu is not _here():
            raise UserError(
                f"measure=true measures this machine, and gpu={settings.gpu} is not in it; leave "
                "one of them out."
            )
        return gpu
    if any(training.config.accelerator == "cpu" for training in trainings):
        return None
    found = _here()
    if found is None and (settings.mfu is not None or settings.gpus is not None):
        raise UserError(f"name the GPU that is meant: gpu=NAME, one of {', '.join(GPUS)}.")
    return found


def _here() -> Gpu | None:
    return gpu_called(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def _measured(settings: DictConfig, found: Estimate) -> Measured | None:
    if not settings.measure:
        return None
    from ldm.apps.planning.measure import measure  # brings Lightning

    images = cutting(found.config).micro_batch
    return measure(found.config, found.companions, images, settings.measure_steps)


def _rate(
    request: Request, number: int, found: Estimate, place: Place, measured: Measured | None
) -> Rate | None:
    """What is known of the speed: measured, given, or published for the GPU."""
    config, mfu = found.config, request.mfu_of(number)
    if measured is not None:
        return schedule.rate_measured(found, place, measured.seconds, measured.images)
    if mfu is None and not is_of_16_bits(config.precision):
        print(f"published rates are of 16 bits, not precision={config.precision}: {INSTEAD}")
        return None
    schedule.peak(place, config)  # which must be known
    if mfu is not None:
        gpus = request.settings.mfu_gpus or config.devices * config.num_nodes
        return schedule.rate_by_mfu(found, place, mfu, gpus)
    reached = reached_at(place.gpu, config.size)
    if reached is None:
        print(
            f"no training of a UNet on {place.gpu.title} is known to us: say what it reaches, "
            "mfu=0.25 for instance"
        )
        return None
    return schedule.rate_as_reached(found, place, reached)


def _counts(settings: DictConfig, trainings: list[Training]) -> list[int]:
    given = settings.gpus
    return [*given] if given is not None else [*schedule.COUNTS, _headline(settings, trainings)]


def _headline(settings: DictConfig, trainings: list[Training]) -> int:
    """The number of GPUs whose time is told: the configured one, or else the first asked for."""
    config = trainings[0].config
    configured = int(config.devices * config.num_nodes)
    given = settings.gpus
    return configured if given is None or configured in given else int(given[0])
