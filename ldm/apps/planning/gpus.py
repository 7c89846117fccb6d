"""GPUs that are known by name: what they compute, hold and move, and what training reached on them.

A place to add another: one entry, each number with its source. Peaks are dense (no sparsity), of
matrix units that add up in fp32. ``docs/planning.md`` shows the table.
"""

from dataclasses import dataclass

from ldm.apps.errors import UserError, suggestion

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Reached:
    """A published training of a UNet: model FLOP/s over the dense 16-bit peak, and its set-up."""

    mfu: float
    size_px: int
    gpus: int
    images_per_gpu: int  # per optimizer step
    micro_batch: int
    source: str


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU. Bandwidths are bytes per second, links count one direction."""

    title: str
    names: tuple[str, ...]  # torch.cuda.get_device_name, after "NVIDIA"; others are other GPUs
    half_flops: float  # dense, 16 bits
    memory: float  # bytes
    bandwidth: float  # of its memory
    link: float  # to the other GPUs of its machine
    network: float  # to GPUs of other machines, for each GPU
    has_bf16: bool
    source: str
    reached: tuple[Reached, ...] = ()


_SHEET = "vendor's data sheet"
_SD2 = "Stable Diffusion 2's UNet"
_MOSAIC = "MosaicML diffusion, README: " + _SD2 + ", latents and text cached, FSDP"
_A100 = (
    Reached(0.238, 256, 8, 256, 16, f"{_MOSAIC}: 137.5 images/s per GPU"),
    Reached(0.280, 512, 8, 256, 16, f"{_MOSAIC}: 36.2 images/s per GPU"),
)
_MLPERF = "MLPerf training 4.0, NVIDIA: " + _SD2 + ", latents and text cached, fp16, CUDA graph"
GPUS: dict[str, Gpu] = {
    "a100_40gb": Gpu(
        "NVIDIA A100 SXM 40 GB", ("A100-SXM4-40GB",),
        312 * TERA, 40 * GIGA, 1555 * GIGA, 300 * GIGA, 25 * GIGA, True, _SHEET, _A100,
    ),
    "a100_80gb": Gpu(
        "NVIDIA A100 SXM 80 GB", ("A100-SXM4-80GB", "A100-SXM-80GB"),
        312 * TERA, 80 * GIGA, 2039 * GIGA, 300 * GIGA, 25 * GIGA, True, _SHEET, _A100,
    ),
    "h100": Gpu(
        "NVIDIA H100 SXM 80 GB", ("H100 80GB HBM3",),
        989 * TERA, 80 * GIGA, 3350 * GIGA, 450 * GIGA, 50 * GIGA, True, _SHEET,
        (Reached(0.269, 512, 64, 16, 16, f"{_MLPERF}: 110.3 images/s per GPU of 64"),),
    ),
    "h200": Gpu(
        "NVIDIA H200 SXM 141 GB", ("H200",),
        989 * TERA, 141 * GIGA, 4300 * GIGA, 450 * GIGA, 50 * GIGA, True,
        f"{_SHEET}; bandwidth: a measured copy",
        (Reached(0.314, 512, 8, 64, 64, f"{_MLPERF}: 128.9 images/s per GPU of 8"),),
    ),
    "b200": Gpu(
        "NVIDIA B200 180 GB", ("B200",),
        2250 * TERA, 180 * GIGA, 7700 * GIGA, 900 * GIGA, 50 * GIGA, True, _SHEET,
    ),
    "l40s": Gpu(
        "NVIDIA L40S 48 GB", ("L40S",),
        362 * TERA, 48 * GIGA, 864 * GIGA, 25 * GIGA, 12.5 * GIGA, True, _SHEET,
    ),
    "rtx4090": Gpu(
        "NVIDIA RTX 4090 24 GB", ("GeForce RTX 4090",),
        165 * TERA, 24 * GIGA, 1008 * GIGA, 20 * GIGA, 3 * GIGA, True, _SHEET,
    ),
    "rtx3090": Gpu(
        "NVIDIA RTX 3090 24 GB", ("GeForce RTX 3090",),
        71 * TERA, 24 * GIGA, 936 * GIGA, 12 * GIGA, 3 * GIGA, True, _SHEET,
    ),
    "v100": Gpu(
        "NVIDIA V100 SXM 32 GB", ("Tesla V100-SXM2-32GB",),
        125 * TERA, 32 * GIGA, 900 * GIGA, 150 * GIGA, 12.5 * GIGA, False, _SHEET,
    ),
}  # fmt: skip
_ALSO = {"a100": "a100_80gb"}


def gpu_named(name: str) -> Gpu:
    """The GPU of ``gpu=NAME``; UserError with the nearest names."""
    name = _ALSO.get(name.lower(), name.lower())
    if name not in GPUS:
        raise UserError(f"gpu={name} is not in the table. {suggestion(name, [*GPUS, *_ALSO])}")
    return GPUS[name]


def gpu_called(device_name: str) -> Gpu | None:
    """The entry of a device, by the name that its driver gives it; None where there is none."""
    name = device_name.removeprefix("NVIDIA ")
    return next((gpu for gpu in GPUS.values() if name in gpu.names), None)


def is_of_16_bits(precision: str) -> bool:
    """Whether products are computed in 16 bits."""
    return precision in ("bf16-mixed", "bf16-true", "16-mixed", "16-true")


def peak_of(gpu: Gpu, precision: str) -> float | None:
    """FLOP/s that MFU is held against, dense 16-bit; None where there is no one peak.

    Of fp32 there is none: by default torch computes convolutions in TF32 and products in fp32.
    """
    if not is_of_16_bits(precision) or (precision.startswith("bf16") and not gpu.has_bf16):
        return None
    return gpu.half_flops


def reached_at(gpu: Gpu, size_px: int) -> Reached | None:
    """The published training nearest in size of pictures; None where there is none."""
    return min(gpu.reached, key=lambda r: abs(r.size_px - size_px), default=None)
