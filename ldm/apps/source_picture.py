"""The picture that `ldm sample` is to change: image= and mask=, from files to an ``Edit``."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.data.images import decode_layers, extended, fit, fit_mask, to_tensor
from ldm.diffusion.editing import steps_left
from ldm.generation import Edit
from ldm.manifest import file_hash

# Enough to change what is there and still to keep where it is; inside a mask nothing need stay.
STRENGTH, STRENGTH_MASKED = 0.75, 1.0


class SourcePicture(NamedTuple):
    """A picture (H, W, 3) uint8 and its mask (H, W) bool, True where it is painted anew."""

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    strength: float
    record: dict[str, Any]  # what samples.json says of it

    def fitted(self, size_px: int) -> Edit:
        """Its middle square at a model's size, as training pictures are cut."""
        mask = None if self.mask is None else torch.from_numpy(fit_mask(self.mask, size_px))
        return Edit(to_tensor(fit(self.pixels, size_px)), self.strength, mask)


def read_source(config: DictConfig) -> SourcePicture | None:
    """What image=, mask= and strength= ask for, None without; UserError where that cannot be.

    Without mask= the transparent part of a picture is painted anew.
    """
    if config.image is None:
        for key in ("mask", "strength"):
            if config[key] is not None:
                raise UserError(f"{key}= is about a picture to begin from: give image=FILE too.")
        return None
    pixels, opacity = _read("image", config.image)
    if opacity is not None:
        pixels = extended(pixels, opacity >= 128)
    mask, origin = None, None
    if config.mask is not None:
        grey, visible = _read("mask", config.mask)
        mask = (grey.mean(2) >= 127.5) & (True if visible is None else visible >= 128)
        origin = file_hash(config.mask)
        if mask.shape != pixels.shape[:2]:
            raise UserError(
                f"mask={config.mask} is {_size(mask)} pixels and image={config.image} "
                f"{_size(pixels)}; they must be of one size."
            )
        if not mask.any():
            raise UserError(f"mask={config.mask} has nothing white, where the picture is painted.")
    elif opacity is not None and (opacity < 128).any():
        mask, origin = opacity < 128, "transparency"
    strength = config.strength
    if strength is None:
        strength = STRENGTH if mask is None else STRENGTH_MASKED
    steps_left(config.steps, strength)
    record = {"image": file_hash(config.image), "mask": origin, "strength": float(strength)}
    return SourcePicture(pixels, mask, float(strength), record)


def tell(source: SourcePicture, size_px: int, config: DictConfig) -> None:
    """Print what becomes of the picture where that may surprise."""
    name = f"image={config.image}"
    if source.record["mask"] == "transparency":
        print(f"{name}: its transparent part is painted anew")
    if source.mask is None and source.strength == 1.0:
        print(f"{name}: next to nothing is left of it at strength=1; lower it to keep the layout")
    if source.pixels.shape[:2] != (size_px, size_px):
        print(
            f"{name}: {_size(source.pixels)} pixels; its middle square becomes "
            f"{size_px}x{size_px}, the size of this model"
        )


def _read(key: str, file: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    if not Path(file).is_file():
        raise UserError(f"{key}={file}: there is no such file.")
    try:
        return decode_layers(Path(file).read_bytes())
    except ValueError as error:
        raise UserError(f"{key}={file}: {error}.") from error


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
