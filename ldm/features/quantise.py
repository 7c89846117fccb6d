"""Eight-bit images: what a picture is once it has been saved.

Everything that is measured is clipped and rounded the same way, so that a score does not depend
on whether images came from memory or from PNG files.
"""

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8 in 0..255, clipped and rounded to nearest; any shape.

    ValueError for NaN or infinite pixels, which would silently turn into some colour.
    """
    if not bool(torch.isfinite(images).all()):
        raise ValueError(
            "Images to be measured hold NaN or infinite pixels: the decoder or the sampler "
            "overflowed. Try precision=32, or an earlier checkpoint."
        )
    return images.float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)


def quantise(images: Tensor) -> Tensor:
    """Images in [-1, 1] as float32 on the 256 levels of an 8-bit picture; any shape."""
    return to_uint8(images).float().div(127.5).sub(1.0)
