"""Hours and cost of a training on any number of GPUs, from what an image takes on one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.apps.planning.estimate import Estimate
from ldm.apps.planning.gpus import Gpu, Reached, is_of_16_bits, peak_of
from ldm.apps.planning.memory import Cutting, largest_micro_batch, memory_of
from ldm.apps.planning.scaling import (
    LAUNCH_SECONDS,
    Cut,
    Links,
    Work,
    communication_seconds,
    fixed_seconds,
    image_seconds,
    shards,
    step_seconds,
)
from ldm.apps.report.numbers import size_in_words
from ldm.apps.shares import needs_whole_batch

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
INSTEAD = "Measure it where it is to run (measure=true), or plan with precision=bf16-mixed."
_SD2 = 865_910_724, {256: 0.539e12, 512: 2.409e12}  # the parameters and FLOP behind ``Reached``


@dataclass(frozen=True)
class Rate:
    """How long an image takes to compute on one GPU, and how that is known."""

    image_seconds: float
    said: str
    launch_seconds: float = LAUNCH_SECONDS  # per weight tensor


@dataclass(frozen=True)
class Row:
    """A training on so many GPUs; ``refused`` says why it cannot be, and then all else is zero."""

    gpus: int
    refused: str | None = None
    micro_batch: int = 0
    accumulate: int = 0
    memory: float = 0.0  # bytes on each
    step_seconds: float = 0.0
    communication_seconds: float = 0.0  # of each step, most of it hidden
    images_per_second: float = 0.0
    mfu: float | None = None
    efficiency: float = 1.0  # against as many times the row with the fewest GPUs
    hours: float = 0.0
    gpu_hours: float = 0.0
    cost: float | None = None


@dataclass(frozen=True)
class Place:
    """The GPUs, their links and their price."""

    gpu: Gpu
    links: Links
    price: float | None


def place_of(settings: DictConfig, gpu: Gpu) -> Place:
    """A GPU as the command's settings describe its surroundings."""
    link = settings.link_gb_per_second
    network = settings.network_gb_per_second
    links = Links(
        gpu.bandwidth,
        gpu.link if link is None else link * 1e9,
        gpu.network if network is None else network * 1e9,
        settings.gpus_per_machine,
    )
    return Place(gpu, links, settings.price_per_gpu_hour)


def work_of(found: Estimate) -> Work:
    """What a step asks of devices."""
    config = found.config
    return Work(
        parameters=found.parameters["trained"] + found.parameters.get("discriminator", 0),
        averaged=config.ema_decay is not None,
        casts=config.precision.endswith("-mixed"),
        tensors=found.tensors,
        sharded=config.strategy == "fsdp",
    )


def peak(place: Place, config: DictConfig) -> float:
    """The FLOP/s of the configured precision; UserError where the GPU has it not."""
    found = peak_of(place.gpu, config.precision)
    if found is None and not is_of_16_bits(config.precision):
        raise UserError(
            f"precision={config.precision} has no one peak that mfu= could be a share of: "
            f"convolutions compute in TF32, other products in fp32. {INSTEAD}"
        )
    if found is None:
        raise UserError(
            f"precision={config.precision}: no rate of {place.gpu.title} is known for it. Set "
            f"precision={'bf16-mixed' if place.gpu.has_bf16 else '16-mixed'}."
        )
    return found


def cut_for(found: Estimate, place: Place, gpus: int) -> tuple[Cut, int, float] | str:
    """The cut of the global batch among GPUs, its micro-batch and memory; or why there is none."""
    config = found.config
    images, rest = divmod(config.global_batch, gpus)
    if rest or not images:
        return f"global_batch={config.global_batch} does not divide by {gpus}"
    asked = min(config.micro_batch or images, images)
    if config.max_micro_pixels is not None:
        asked = min(asked, max(1, config.max_micro_pixels // config.size**2))
    parts = shards(gpus, place.links.gpus_per_machine) if config.strategy == "fsdp" else 1
    micro = largest_micro_batch(
        found.held, Cutting(asked, asked < images, parts), images, place.gpu.memory
    )
    if not micro:
        needed = sum(memory_of(found.held, Cutting(1, images > 1, parts)).values())
        return f"one picture needs {size_in_words(needed)} of {size_in_words(place.gpu.memory)}"
    if micro < images and needs_whole_batch(config):
        return f"{images} pictures at once, which this stage needs, do not fit"
    memory = sum(memory_of(found.held, Cutting(micro, micro < images, parts)).values())
    return Cut(gpus, images, images // micro), micro, memory


def rate_by_mfu(found: Estimate, place: Place, mfu: float, gpus: int) -> Rate:
    """The rate at which a step on so many GPUs, all included, has this utilisation."""
    work, cut = work_of(found), _require_cut(found, place, gpus)
    seconds = cut.images * found.flops.training / (peak(place, found.config) * mfu)
    said = f"MFU {mfu:.1%} on {gpus} GPU(s), as given"
    try:
        return Rate(_image_seconds(work, place.links, cut, seconds, said), said)
    except UserError as error:
        raise UserError(f"{error} Give a lower mfu=.") from error


def rate_as_reached(found: Estimate, place: Place, reached: Reached) -> Rate:
    """The rate of a published training, brought to this network by its operations."""
    parameters, known = _SD2
    work = Work(parameters, averaged=False, casts=True)
    cut = Cut(reached.gpus, reached.images_per_gpu, reached.images_per_gpu // reached.micro_batch)
    operations = known[reached.size_px]
    seconds = cut.images * operations / (place.gpu.half_flops * reached.mfu)
    gpu = place.gpu
    theirs = Links(gpu.bandwidth, gpu.link, gpu.network)  # and not those that are planned with
    each = image_seconds(work, theirs, cut, seconds)
    said = (
        f"MFU {reached.mfu:.1%} at {reached.size_px} px on {reached.gpus} GPUs, published "
        f"({reached.source})"
    )
    if found.config.stage != "diffusion":
        said += "; of a denoiser, so a guess for this stage: give mfu= or measure=true"
    return Rate(each * found.flops.step / operations, said)


def rate_measured(found: Estimate, place: Place, seconds: float, images: int) -> Rate:
    """The rate of a step of so many images, in one pass, measured on one GPU.

    Where its kernels were launched faster than assumed, as those of a compiled network, they are on
    any number of GPUs.
    """
    said = f"measured here: {images / seconds:,.1f} images/s on one GPU"
    work, cut = work_of(found), Cut(1, images)
    computing = seconds - fixed_seconds(work, place.links, cut)
    launching = min(work.launch_seconds, max(0.0, 0.9 * computing / max(1, work.tensors)))
    work = replace(work, launch_seconds=launching)
    return Rate(_image_seconds(work, place.links, cut, seconds, said), said, launching)


def rows(found: Estimate, place: Place, rate: Rate, counts: Sequence[int]) -> list[Row]:
    """The training on each number of GPUs, its global batch the same on all."""
    made = [_row(found, place, rate, gpus) for gpus in sorted({*counts})]
    first = next((row for row in made if row.refused is None), None)
    if first is None:
        return made
    alone = first.images_per_second / first.gpus
    return [replace(r, efficiency=r.images_per_second / (r.gpus * alone)) for r in made]


def total(of_trainings: Sequence[list[Row]]) -> list[Row]:
    """All trainings one after the other, on each number of GPUs that is in every list."""
    made = []
    for of_count in zip(*of_trainings, strict=True):
        refused = next((row.refused for row in of_count if row.refused), None)
        hours = sum(row.hours for row in of_count)
        costs = [row.cost for row in of_count if row.cost is not None]
        images = sum(row.images_per_second * row.hours for row in of_count)
        made.append(
            Row(
                of_count[0].gpus,
                refused,
                memory=max(row.memory for row in of_count),
                images_per_second=images / hours if hours else 0.0,
                hours=hours,
                gpu_hours=hours * of_count[0].gpus,
                cost=sum(costs) if costs else None,
            )
        )
    base = next((row for row in made if row.refused is None), None)
    if base is None:
        return made
    return [
        row if row.refused else replace(row, efficiency=base.gpu_hours / row.gpu_hours)
        for row in made
    ]


def _row(found: Estimate, place: Place, rate: Rate, gpus: int) -> Row:
    cut = cut_for(found, place, gpus)
    if isinstance(cut, str):
        return Row(gpus, cut)
    how, micro, memory = cut
    work = replace(work_of(found), launch_seconds=rate.launch_seconds)
    seconds = step_seconds(work, place.links, how, rate.image_seconds)
    per_second = found.config.global_batch / seconds
    hours = found.config.max_steps * seconds / 3600
    highest = peak_of(place.gpu, found.config.precision)
    return Row(
        gpus,
        micro_batch=micro,
        accumulate=how.micro_steps,
        memory=memory,
        step_seconds=seconds,
        communication_seconds=communication_seconds(work, place.links, how),
        images_per_second=per_second,
        mfu=per_second / gpus * found.flops.training / highest if highest else None,
        hours=hours,
        gpu_hours=hours * gpus,
        cost=None if place.price is None else hours * gpus * place.price,
    )


def _require_cut(found: Estimate, place: Place, gpus: int) -> Cut:
    cut = cut_for(found, place, gpus)
    if isinstance(cut, str):
        raise UserError(
            f"mfu= is said of {gpus} GPU(s), but {cut}. Say on how many it is reached: mfu_gpus=N."
        )
    return cut[0]


def _image_seconds(work: Work, links: Links, cut: Cut, seconds: float, said: str) -> float:
    try:
        return image_seconds(work, links, cut, seconds)
    except ValueError as error:
        raise UserError(f"{said}: {error}.") from error
