"""How pictures come to the size that a network sees: the kernels by which published scores differ.

Each is named after the program that made it known. A score says which it was: between two of them
a Frechet Inception distance can change more than between two models (Parmar et al. 2022).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]
"""Height and width in pixels."""


def tensorflow_1(images: Tensor, size: Size) -> Tensor:
    """Bilinear as in TensorFlow 1, any range: output pixel i looks at i * input / output exactly.

    Grids meet at the upper left corner of the first pixels, the lower right border is repeated,
    and downsampling skips pixels. (B, C, H, W) float32 -> (B, C, *size).
    """
    for axis, target in ((3, size[1]), (2, size[0])):
        count = images.shape[axis]
        step = torch.tensor(count / target, dtype=torch.float32)
        at = torch.arange(target, dtype=torch.float32) * step
        low = at.long()
        high = (low + 1).clamp_max(count - 1)
        share = (at - low).to(images.device).view(-1, *[1] * (3 - axis))
        first = images.index_select(axis, low.to(images.device))
        images = first + (images.index_select(axis, high.to(images.device)) - first) * share
    return images


def half_pixel(images: Tensor, size: Size) -> Tensor:
    """Bilinear as torch has it, any range: centres of pixels meet; downsampling skips pixels."""
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def pillow_float(images: Tensor, size: Size) -> Tensor:
    """Pillow's bicubic, which widens with the step and so skips nothing, on each channel as floats.

    Values in 0..255; the result is clipped to that range and not rounded. Computed on the CPU.
    """

    def resized(channel: Tensor) -> Tensor:
        picture = Image.fromarray(channel.numpy())  # mode F
        return torch.from_numpy(np.array(picture.resize(size[::-1], Image.Resampling.BICUBIC)))

    flat = images.float().cpu().flatten(0, 1)
    found = torch.stack([resized(channel) for channel in flat]).clamp(0.0, 255.0)
    return found.view(*images.shape[:2], *size).to(images.device)


def pillow(images: Tensor, size: Size, interpolation: str) -> Tensor:
    """Pillow's kernel on 8-bit pictures, as image loaders apply it: rounded to 8 bits.

    ``interpolation`` is Pillow's name, such as bicubic. uint8 (B, 3, H, W) -> uint8 (B, 3, *size),
    computed on the CPU. ValueError for a name that Pillow does not know.
    """
    if interpolation.upper() not in Image.Resampling.__members__:
        known = ", ".join(name.lower() for name in Image.Resampling.__members__)
        raise ValueError(f"interpolation={interpolation!r} is unknown; choose one of {known}.")
    if images.shape[-2:] == size:
        return images
    kernel = Image.Resampling[interpolation.upper()]
    found = [
        torch.from_numpy(np.array(Image.fromarray(picture.numpy()).resize(size[::-1], kernel)))
        for picture in images.cpu().permute(0, 2, 3, 1).contiguous()
    ]
    return torch.stack(found).permute(0, 3, 1, 2).to(images.device)


class Kernel(NamedTuple):
    """A way to resize for the Inception, and what a record must say of it."""

    resize: Callable[[Tensor, Size], Tensor]
    what: str
    antialias: bool
    zero: float  # the level that becomes 0, and that whose distance from it becomes 1
    one: float

    def protocol(self, size: Size) -> dict[str, Any]:
        return {
            "kernel": self.what,
            "antialias": self.antialias,
            "size_px": list(size),
            "range": f"(level - {self.zero:g}) / {self.one:g}",
        }


# The original's graph and torch-fidelity compute the same, so both names give the same record.
_ORIGINAL = Kernel(tensorflow_1, "bilinear, TensorFlow 1 corners", False, 128.0, 128.0)
KERNELS = {
    "torch_fidelity": _ORIGINAL,
    "original": _ORIGINAL,
    "clean_fid": Kernel(pillow_float, "bicubic, Pillow on floats", True, 128.0, 128.0),
    "pytorch_fid": Kernel(half_pixel, "bilinear, torch half-pixel", False, 127.5, 127.5),
}


ResizeName = Literal["torch_fidelity", "original", "clean_fid", "pytorch_fid"]


def kernel(name: str) -> Kernel:
    """The kernel of that name; ValueError listing those that exist."""
    if name not in KERNELS:
        raise ValueError(f"resize={name!r} is unknown; choose one of {', '.join(KERNELS)}.")
    return KERNELS[name]
