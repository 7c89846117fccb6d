"""Pictures that are no pictures: arrays of any number of channels, stored as .npy.

Only the plain format is read, with nothing pickled, and never more than its bytes say.
"""

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"


def array_shape(data: bytes) -> tuple[int, int, int]:
    """Height, width and channels of an array in .npy format; errors are ``decode_array``'s."""
    return _header(io.BytesIO(data), len(data))[0]


def decode_array(data: bytes) -> NDArray[np.uint8]:
    """The picture (H, W, C) in .npy bytes, 8 bits; of 16 bits the upper ones, rounded.

    ValueError with a short reason: not such an array, truncated, another type of number.
    """
    file = io.BytesIO(data)
    shape, dtype, fortran_order = _header(file, len(data))
    order: Any = "F" if fortran_order else "C"
    pixels = np.frombuffer(data, dtype, math.prod(shape), file.tell()).reshape(shape, order=order)
    return to_8_bits(pixels)


def to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture (H, W, C) in 8 bits; ValueError for other than whole numbers of 8 or 16 bits."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype == np.uint16:
        return (pixels / 257.0).round().astype(np.uint8)
    if pixels.dtype.kind == "f":
        raise ValueError("floating-point pixels have no defined range")
    raise ValueError("pixels are neither uint8 nor uint16")


def encode_array(image: NDArray[np.uint8]) -> bytes:
    """A picture (H, W, C) as .npy: equal pictures are equal bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(image), version=(1, 0))
    return buffer.getvalue()


def _header(file: io.BytesIO, size: int) -> tuple[tuple[int, int, int], np.dtype[Any], bool]:
    try:
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, fortran_order, dtype = read(file)
    except Exception as error:  # parsers of hostile bytes raise anything
        raise ValueError("not an array in .npy format") from error
    if len(shape) != 3 or dtype.hasobject or min(shape) < 1:
        raise ValueError("not an array of height, width and channels")
    if size - file.tell() < math.prod(shape) * dtype.itemsize:
        raise ValueError("truncated array")
    return shape, dtype, fortran_order
