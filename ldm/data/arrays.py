"""Pictures that no picture format holds: .npy arrays of any number of channels.

Shape (H, W) or (H, W, C). Integers (uint8, uint16) span the range of their type from black to
white; float32 is already in [-1, 1]. Nothing pickled is read, and the header is checked against
the bytes that are there before anything of its size is allocated.
"""

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAGIC = b"\x93NUMPY"
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def array_shape(data: bytes) -> tuple[int, int, int]:
    """Height, width and channels of an array in .npy format; errors are ``decode_array``'s."""
    return _header(io.BytesIO(data), len(data))[0]


def decode_array(data: bytes, channels: int, max_pixels: int) -> NDArray[Any]:
    """The picture (H, W, ``channels``) in .npy bytes: uint8, uint16 or float32 in [-1, 1].

    ValueError with a short reason: not such an array, too many pixels, other channels, truncated,
    another type of number, floats that are not finite or outside of [-1, 1].
    """
    file = io.BytesIO(data)
    shape, dtype, order = _header(file, len(data))
    if shape[0] * shape[1] > max_pixels:
        raise ValueError("too many pixels")
    if shape[2] != channels:
        raise ValueError(f"{shape[2]} channels, not data.channels={channels}")
    pixels = np.frombuffer(data, dtype, math.prod(shape), file.tell()).reshape(shape, order=order)
    if dtype.kind == "f" and not np.abs(pixels).max() <= 1.0:  # so that NaN is refused as well
        raise ValueError("floating-point pixels outside of [-1, 1]")
    return np.ascontiguousarray(pixels, dtype=dtype.newbyteorder("="))


def encode_array(image: NDArray[Any]) -> bytes:
    """A picture (H, W, C) as .npy: equal pictures are equal bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(image), version=(1, 0))
    return buffer.getvalue()


def resized(
    image: NDArray[Any],
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    by: Image.Resampling = Image.Resampling.LANCZOS,
) -> NDArray[Any]:
    """The part ``box`` (left, top, right, bottom) of a picture at ``size`` (width, height).

    (H, W), or (H, W, C) of any number of channels; uint8, uint16 or float32, which stays.
    """
    if image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] == 3):
        return np.array(Image.fromarray(image).resize(size, by, box=box))
    if image.ndim == 3:
        return np.stack([resized(image[..., c], size, box, by) for c in range(image.shape[2])], -1)
    result = np.array(Image.fromarray(image.astype(np.float32)).resize(size, by, box=box))
    if image.dtype == np.uint16:
        return result.round().clip(0, 65535).astype(np.uint16)
    return result


def _header(file: io.BytesIO, size: int) -> tuple[tuple[int, int, int], np.dtype[Any], Any]:
    """Shape, type of number and order ("C" or "F"); the file then stands at the first number."""
    try:
        shape, is_fortran, dtype = _READERS[np.lib.format.read_magic(file)](file)
    except Exception as error:  # parsers of hostile bytes raise anything
        raise ValueError("not an array in .npy format") from error
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError("not an array of height, width and channels")
    if dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.float32):
        raise ValueError("an array of other numbers than uint8, uint16 or float32")
    if size - file.tell() < math.prod(shape) * dtype.itemsize:
        raise ValueError("truncated array")
    return shape, dtype, "F" if is_fortran else "C"
