"""`ldm plan`: its own settings; all others are of the training that is planned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from ldm.ranges import Above, AtMost, Count, Fits, Positive

Utilisation = Annotated[float, Above(0), AtMost(1)]


def _is_phase(text: str) -> bool:
    size, colon, steps = text.partition(":")
    return bool(colon) and size.isdigit() and steps.isdigit() and int(size) > 0 < int(steps)


Phases = Annotated[
    Sequence[str],
    Fits(
        lambda phases: bool(phases) and all(map(_is_phase, phases)),
        "a list of SIZE:STEPS, such as [256:237000,512:934000]",
    ),
]
Counts = Annotated[Sequence[Count], Fits(bool, "a list of whole numbers of at least 1")]


@dataclass(kw_only=True)
class Plan:
    """What is planned, on what, at which price."""

    phases: Phases | None
    gpu: str | None
    gpus: Counts | None
    gpus_per_machine: Count
    link_gb_per_second: Positive | None
    network_gb_per_second: Positive | None
    mfu: Utilisation | Sequence[Utilisation] | None
    mfu_gpus: Count | None
    measure: bool
    measure_steps: Count
    price_per_gpu_hour: Positive | None
    images: Count | None
    latents_by: str | None
    captions_by: str | None
    out: str | None
