"""`ldm sample` and `ldm evaluate`: how pictures are drawn, and what each adds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ldm.apps.schema.annotation import Part
from ldm.apps.schema.common import Accelerator, Shards, SidePixels
from ldm.ranges import Above, AtMost, Count, Fits, Length, Natural, NonNegative, Share

Interval = Annotated[
    Sequence[float],
    Fits(
        lambda ends: len(ends) == 2 and 0 <= ends[0] < ends[1],
        "two finite numbers [low, high], 0 <= low < high",
    ),
]


@dataclass(kw_only=True)
class Drawing:
    """How a denoiser's pictures are drawn."""

    model: str
    sampler: Part
    seed: Natural
    steps: Count
    guidance: NonNegative
    guidance_rescale: Share
    guidance_interval: Interval | None
    sizes: Sequence[NonNegative] | None
    negative_sizes: Sequence[NonNegative] | None
    spacing: Literal["trailing", "leading", "linspace", "karras", "diffusers"]
    negative: str
    prompts: str | None
    block: Count
    accelerator: Accelerator
    out: str


@dataclass(kw_only=True)
class Sample(Drawing):
    """`ldm sample`."""

    prompt: str | None
    num: Count
    size: SidePixels | Annotated[Sequence[SidePixels], Length(2)] | None
    image: str | None
    mask: str | None
    strength: Annotated[float, Above(0), AtMost(1)] | None
    prompt_to: str | None
    seed_to: Natural | None
    like: str | None


@dataclass(kw_only=True)
class EvaluationData(Shards):
    """``data`` of `ldm evaluate`."""

    root: str | None  # type: ignore[assignment]  # here there may be none


@dataclass(kw_only=True)
class Evaluate(Drawing):
    """`ldm evaluate`."""

    model: str | None  # type: ignore[assignment]  # here there may be none
    checkpoint: Count | None
    samples: str | None
    allow_jpeg: bool
    reference: str | None
    data: EvaluationData
    text_run: str | None
    metrics: Mapping[str, Part]
    num_samples: Count | None
    weights_dir: str
    allow_unknown_weights: bool
    notes: str | None
    devices: Count
