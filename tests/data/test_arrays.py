"""Arrays as pictures: what is read, what is refused, and that any number of channels is scaled."""

import io
import pickle

import numpy as np
import pytest
import torch

from ldm.data import arrays, images


def _npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=version)
    return buffer.getvalue()


def _noise(dtype, shape=(9, 7, 5)) -> np.ndarray:
    draw = np.random.default_rng(0)
    if dtype == np.float32:
        return draw.uniform(-1, 1, shape).astype(dtype)
    return draw.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_arrays_come_back_as_they_were(dtype, version):
    pixels = _noise(dtype)
    for stored in (pixels, np.asfortranarray(pixels), pixels.astype(pixels.dtype.newbyteorder())):
        data = _npy(stored, version)
        decoded = arrays.decode_array(data, 5, 100)
        assert decoded.dtype == dtype and np.array_equal(decoded, pixels)
        assert decoded.flags.c_contiguous and arrays.array_shape(data) == (9, 7, 5)
    assert arrays.decode_array(arrays.encode_array(pixels), 5, 100).tobytes() == pixels.tobytes()
    flat = arrays.decode_array(_npy(pixels[..., 0]), 1, 100)
    assert np.array_equal(flat, pixels[..., :1])


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def _declared(shape: tuple[int, ...]) -> bytes:
    """A header alone, of an array that would not fit in memory."""
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "not an array"),
        (arrays.MAGIC + b"\x01\x00\xff\xff{'descr'", "not an array"),
        (b"\x93NUMPY\x03\x00" + bytes(20), "not an array"),
        (_npy(np.zeros((4, 4, 5), np.uint8))[:-1], "truncated array"),
        (_npy(np.zeros((4, 4, 3), np.uint8)), "3 channels, not data.channels=5"),
        (_npy(np.zeros((40, 40, 5), np.uint8)), "too many pixels"),
        (_declared((100_000, 100_000, 5)), "truncated array"),
        (_declared((2**40, 2**40, 5)), "truncated array"),
        (_declared((-4, -4, 5)), "not an array of height"),
        (_npy(np.zeros((4, 0, 5), np.uint8)), "not an array of height"),
        (_npy(np.zeros(4, np.uint8)), "not an array of height"),
        (_npy(np.zeros((4, 4, 5), np.int64)), "other numbers"),
        (_npy(np.full((4, 4, 5), np.nan, np.float32)), "outside of"),
        (_npy(np.full((4, 4, 5), 1.5, np.float32)), "outside of"),
    ],
)
def test_faults_have_short_reasons(data, reason):
    with pytest.raises(ValueError, match=reason):
        arrays.decode_array(data, 5, 1000)


def test_objects_are_never_unpickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([[[_Evil()]]], object), allow_pickle=True)
    with pytest.raises(ValueError, match="other numbers"):
        arrays.decode_array(buffer.getvalue(), 1, 100)
    with pytest.raises(ValueError, match="not an array"):
        arrays.decode_array(pickle.dumps(_Evil()), 1, 100)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_channels_and_types_are_fitted_alike(channels):
    pixels = _noise(np.uint8, (40, 60, channels)) // 4 + 96  # nothing is clipped between passes
    of_bytes = images.fit(pixels, 16)
    assert of_bytes.shape == (16, 16, channels) and of_bytes.dtype == np.uint8
    wide = images.fit(pixels.astype(np.uint16) * 257, 16)
    assert wide.dtype == np.uint16 and np.abs(wide / 257.0 - of_bytes).max() < 1.5
    floats = images.fit((pixels / 127.5 - 1.0).astype(np.float32), 16)
    assert floats.dtype == np.float32 and np.abs(floats).max() <= 1.0
    assert np.abs((floats + 1.0) * 127.5 - of_bytes).max() < 1.5


def test_lanczos_does_not_leave_the_range():
    edge = np.zeros((64, 64, 2), np.uint16)
    edge[:, 32:] = 65535
    assert set(np.unique(images.fit(edge, 8)[:, [0, 7]])) == {0, 65535}
    assert np.abs(images.fit(edge.astype(np.float32) / 32767.5 - 1.0, 8)).max() <= 1.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_span_the_range_of_their_type(dtype):
    values = np.array([[[0], [np.iinfo(dtype).max]]], dtype)
    tensor = images.to_tensor(values)
    assert tensor.dtype == torch.float32 and tensor.tolist() == [[[-1.0, 1.0]]]


def test_floats_are_in_range_already():
    pixels = _noise(np.float32)
    assert torch.equal(images.to_tensor(pixels), torch.from_numpy(pixels).permute(2, 0, 1))
