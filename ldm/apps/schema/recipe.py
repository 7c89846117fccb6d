"""`ldm run`: a recipe's steps, and the settings that shipped recipes have.

A recipe may have others: all that one of its steps uses, as ``${name}``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ldm.apps.schema.common import SidePixels
from ldm.ranges import Count, NonNegative


@dataclass(kw_only=True)
class Step:
    """One command, as it would be typed."""

    name: str
    command: Literal["prepare", "train", "cache", "evaluate", "sample", "export", "import"]
    arguments: Sequence[str]


@dataclass(kw_only=True)
class RecipeData:
    """``data`` of a recipe for pictures of one's own; what it says is checked by the step."""

    path: str
    captions: Any
    held_out_fraction: Any


@dataclass(kw_only=True)
class Recipe:
    """`ldm run`."""

    out: str
    steps: Sequence[Step]
    trainer: str
    num_samples: Count
    guidance: NonNegative
    size: SidePixels
    max_steps: Count
    autoencoder_steps: Count
    channels: Count
    data: RecipeData
