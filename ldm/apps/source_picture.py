"""The picture that `ldm sample` is to change: image= and mask=, from files to an ``Edit``."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.data.images import decode_layers, extended, fit, fit_layers, fit_mask, to_tensor
from ldm.diffusion.editing import steps_left
from ldm.generation import Edit
from ldm.manifest import file_hash

# Enough to change what is there and still to keep where it is; inside a mask nothing need stay.
STRENGTH, STRENGTH_MASKED = 0.75, 1.0
_VISIBLE = 128  # the opacity from which on a pixel counts as seen


class SourcePicture(NamedTuple):
    """What the files hold, uint8: a picture (H, W, 3), its opacity and its mask (H, W) bool.

    ``opacity`` is None where nothing is transparent; ``mask``, True where the picture is painted
    anew, is None without mask=.
    """

    pixels: NDArray[np.uint8]
    opacity: NDArray[np.uint8] | None
    mask: NDArray[np.bool_] | None


def read_source(config: DictConfig) -> SourcePicture | None:
    """What image=, mask= and strength= ask for, None without; UserError where that cannot be."""
    if config.image is None:
        for key in ("mask", "strength"):
            if config[key] is not None:
                raise UserError(f"{key}= is about a picture to begin from: give image=FILE too.")
        return None
    pixels, opacity = _read("image", config.image)
    if opacity is not None and (opacity >= _VISIBLE).all():
        opacity = None
    mask = None
    if config.mask is not None:
        grey, visible = _read("mask", config.mask)
        mask = (grey.mean(2) >= 127.5) & (True if visible is None else visible >= _VISIBLE)
        if mask.shape != pixels.shape[:2]:
            raise UserError(
                f"mask={config.mask} is {_size(mask)} pixels and image={config.image} "
                f"{_size(pixels)}; they must be of one size."
            )
        if not mask.any():
            raise UserError(f"mask={config.mask} has nothing white, where the picture is painted.")
    _strength(config, masked=mask is not None or opacity is not None)
    return SourcePicture(pixels, opacity, mask)


def fitted(source: SourcePicture, size: tuple[int, int], config: DictConfig) -> Edit:
    """The picture's middle at ``size`` (height, width), as training pictures are cut.

    Without mask= what is transparent there is painted anew. UserError where nothing white is left
    of mask=.
    """
    if source.opacity is None:
        pixels, transparent = fit(source.pixels, size), None
    else:
        pixels, opacity = fit_layers(source.pixels, source.opacity, size)
        transparent = opacity < _VISIBLE
        # What colour is hidden there says nothing.
        pixels = extended(pixels, ~transparent) if transparent.any() else pixels
    mask = transparent
    if source.mask is not None:
        mask = fit_mask(source.mask, size)
        if not mask.any():
            raise UserError(
                f"mask={config.mask}: nothing white is left of it in the middle, the part of a "
                f"picture that is used, at {size[1]}x{size[0]} pixels; paint more there."
            )
    if mask is None or not mask.any():
        return Edit(to_tensor(pixels), _strength(config, masked=False))
    return Edit(to_tensor(pixels), _strength(config, masked=True), torch.from_numpy(mask))


def edit_record(edit: Edit, config: DictConfig) -> dict[str, Any]:
    """What samples.json says of an edit."""
    origin = None if edit.mask is None else "transparency"
    return {
        "image": file_hash(config.image),
        "mask": origin if config.mask is None else file_hash(config.mask),
        "strength": edit.strength,
    }


def tell(source: SourcePicture, edit: Edit, config: DictConfig) -> None:
    """Print what becomes of the picture where that may surprise."""
    name, (height, width) = f"image={config.image}", edit.image.shape[-2:]
    if source.pixels.shape[:2] != (height, width):
        what = "the size of this model" if config.size is None else f"size={config.size}"
        middle = "middle square" if height == width else "middle"
        print(
            f"{name}: {_size(source.pixels)} pixels; its {middle} becomes {width}x{height}, {what}"
        )
    if source.opacity is not None and source.mask is None:
        if edit.mask is None:
            print(f"{name}: next to nothing of what is used of it is transparent; taken as opaque")
        else:
            share = float(edit.mask.float().mean())
            print(
                f"{name}: its transparent part is painted anew, {share:.1%} of what is used; the "
                "rest is kept"
            )
    if edit.mask is None and edit.strength == 1.0:
        print(f"{name}: next to nothing is left of it at strength=1; lower it to keep the layout")


def _strength(config: DictConfig, *, masked: bool) -> float:
    """The share of the steps to make; ValueError where that leaves none."""
    usual = STRENGTH_MASKED if masked else STRENGTH
    strength = float(usual if config.strength is None else config.strength)
    steps_left(config.steps, strength)
    return strength


def _read(key: str, file: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    if not Path(file).is_file():
        raise UserError(f"{key}={file}: there is no such file.")
    try:
        return decode_layers(Path(file).read_bytes())
    except ValueError as error:
        raise UserError(f"{key}={file}: {error}.") from error


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
