"""The part of a picture that is trained on: scaled to cover a shape, then cut to it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ldm.data.arrays import resized, within_range
from ldm.data.latents.buckets import scaled_to_cover
from ldm.random import stream, uniform

RULE = "lanczos, cover, 1"  # part of a cache's identity: another number for other pixels


class Crop(NamedTuple):
    """A rectangle of a scaled picture, in pixels; ``mirrored`` after it was cut."""

    scaled: tuple[int, int]  # height and width of the whole picture
    top: int
    left: int
    height: int
    width: int
    mirrored: bool


@dataclass(frozen=True)
class Variants:
    """The ways in which each picture is cached: ``crops`` of it, and with ``flip`` their mirrors.

    The first crop is the middle one, others are drawn by (seed, crop, position in the shards).
    """

    flip: bool
    crops: int
    seed: int

    @property
    def count(self) -> int:
        """How many there are of each picture."""
        return self.crops * (2 if self.flip else 1)

    def of(self, position: int, size: tuple[int, int], shape: tuple[int, int]) -> list[Crop]:
        """The crops of a picture of ``size`` to ``shape``, mirrored ones last."""
        scaled = scaled_to_cover(np.array(size), np.array(shape)).tolist()
        room = [scaled[0] - shape[0], scaled[1] - shape[1]]
        corners = [[room[0] // 2, room[1] // 2]]
        for number in range(1, self.crops):
            key = stream(self.seed, "crop", number)
            drawn = uniform(key, torch.tensor([position]), (2,))[0].tolist()
            corners.append([int(u * (free + 1)) for u, free in zip(drawn, room, strict=True)])
        return [
            Crop((scaled[0], scaled[1]), top, left, *shape, mirrored)
            for mirrored in ((False, True) if self.flip else (False,))
            for top, left in corners
        ]


def cut(image: NDArray[Any], crop: Crop) -> NDArray[Any]:
    """The pixels (height, width, C) of a crop; untouched where nothing is to be scaled.

    ``image`` (H, W, C) may be decoded at any size: it is taken for the whole picture.
    """
    height, width = image.shape[:2]
    if (height, width) == crop.scaled:
        part = image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    else:
        down, across = height / crop.scaled[0], width / crop.scaled[1]
        box = (
            crop.left * across,
            crop.top * down,
            min((crop.left + crop.width) * across, width),
            min((crop.top + crop.height) * down, height),
        )
        part = within_range(resized(image, (crop.width, crop.height), box))
    return np.ascontiguousarray(part[:, ::-1] if crop.mirrored else part)
