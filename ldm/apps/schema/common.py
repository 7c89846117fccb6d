"""Settings that several commands have, and the types that they share."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ldm.ranges import AtLeast, Positive

Accelerator = Literal["cpu", "gpu", "auto"]
Spacing = Literal["trailing", "leading", "linspace", "karras"]
SidePixels = Annotated[int, AtLeast(8)]


@dataclass(kw_only=True)
class Shards:
    """``data`` of a command that reads image shards."""

    root: str
    cache_dir: str | None
    cache_gb: Positive
