"""Commands on files: prepare, cache, materials, export, import, weights, logs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ldm.apps.schema.annotation import Part
from ldm.apps.schema.common import Accelerator, Shards, SidePixels
from ldm.ranges import AtLeast, Count, Fits, Natural, Share

TextRuns = Annotated[
    str | Sequence[str],
    Fits(lambda runs: isinstance(runs, str) or len(runs) in (1, 2), "a run, a list of two runs"),
]


@dataclass(kw_only=True)
class Prepare:
    """`ldm prepare`; the settings of ``data`` are those of its source and of preparing."""

    data: Part
    out: str
    processes: Count | None


@dataclass(kw_only=True)
class Cache:
    """`ldm cache`."""

    autoencoder_run: str
    condition: Literal["text", "classes", "none"]
    text_run: TextRuns | None
    data: Shards
    out: str
    size: SidePixels | None
    buckets: bool
    bucket_step: Count
    max_aspect_ratio: Annotated[float, AtLeast(1)]
    min_bucket: Count
    max_crop: Share | None
    upscale: bool
    flip: bool
    crops: Count
    seed: Natural
    store: Literal["ids", "features"]
    block: Count
    accelerator: Accelerator
    devices: Count
    workers: Natural | None


@dataclass(kw_only=True)
class Export:
    """`ldm export`."""

    model: str
    format: Literal["diffusers", "single_file"]
    out: str
    license: str | None
    metrics_file: str | None


@dataclass(kw_only=True)
class Materials:
    """`ldm materials`."""

    model: str
    out: str | None


@dataclass(kw_only=True)
class Import:
    """`ldm import`."""

    from_: str  # without the underscore, which Python's own word needs
    run: str
    weights: Literal["ema", "raw", None]
    prediction: Part | None


@dataclass(kw_only=True)
class Weights:
    """`ldm weights`."""

    weights_dir: str


@dataclass(kw_only=True)
class Logs:
    """`ldm logs`."""

    run: str
    last: Count
    logger: Mapping[str, Part] | None
