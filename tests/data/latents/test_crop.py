"""The part of a picture that is trained on: the middle, keyed corners, mirrors."""

import numpy as np
import pytest
from PIL import Image

from ldm.data.images import fit
from ldm.data.latents.crop import Crop, Variants, cut

PLAIN = Variants(flip=False, crops=1, seed=0)


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    smooth = np.random.default_rng(0).integers(0, 255, (height // 4 + 2, width // 4 + 2, channels))
    layers = [
        Image.fromarray(smooth[..., c].astype(np.uint8)).resize((width, height))
        for c in range(channels)
    ]
    return np.stack([np.array(layer) for layer in layers], axis=-1)


def test_a_picture_of_its_shape_is_untouched():
    image = picture(32, 48)
    (crop,) = PLAIN.of(0, (32, 48), (32, 48))
    assert crop == Crop((32, 48), 0, 0, 32, 48, False)
    assert np.array_equal(cut(image, crop), image)


def test_the_middle_is_cut_without_resampling_where_nothing_is_scaled():
    image = picture(32, 81)
    (crop,) = PLAIN.of(0, (32, 81), (32, 32))
    assert np.array_equal(cut(image, crop), image[:, 24:56])


def test_the_middle_square_is_that_of_preparing():
    image = picture(96, 160)
    (crop,) = PLAIN.of(0, (96, 160), (48, 48))
    assert crop.scaled == (48, 80) and (crop.top, crop.left) == (0, 16)
    assert np.array_equal(cut(image, crop), fit(image, (48, 48)))


def test_a_crop_is_a_window_of_the_whole_scaled_picture():
    image = picture(120, 200)
    for crop in Variants(flip=False, crops=4, seed=1).of(3, (120, 200), (40, 32)):
        whole = np.array(Image.fromarray(image).resize(crop.scaled[::-1], Image.Resampling.LANCZOS))
        window = whole[crop.top : crop.top + 40, crop.left : crop.left + 32]
        difference = np.abs(cut(image, crop).astype(int) - window)
        assert difference.max() <= 1  # eight bits between the passes


def test_a_picture_decoded_at_half_size_is_cut_alike():
    image = picture(256, 384)
    half = np.array(Image.fromarray(image).reduce(2))
    (crop,) = PLAIN.of(0, (256, 384), (48, 64))
    assert np.abs(cut(image, crop).astype(int) - cut(half, crop)).mean() < 1.5


@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels(channels):
    image = picture(64, 64, channels)
    (crop,) = PLAIN.of(0, (64, 64), (32, 32))
    found = cut(image, crop)
    assert found.shape == (32, 32, channels) and found.dtype == np.uint8
    three = cut(np.repeat(image[..., :1], 3, axis=-1), crop)
    assert np.array_equal(found[..., 0], three[..., 0])


@pytest.mark.parametrize("dtype, scale", [(np.uint16, 257), (np.float32, 1 / 255)])
def test_other_numbers_than_bytes_are_scaled_alike(dtype, scale):
    image = picture(64, 96)
    (crop,) = PLAIN.of(0, (64, 96), (32, 32))
    found = cut((image * float(scale)).astype(dtype), crop)
    assert found.dtype == dtype
    assert np.abs(found / scale - cut(image, crop)).mean() < 1.0


def test_mirrors_come_last_and_mirror_each_crop():
    image = picture(64, 100)
    variants = Variants(flip=True, crops=3, seed=0)
    crops = variants.of(5, (64, 100), (32, 32))
    assert variants.count == len(crops) == 6
    assert [crop.mirrored for crop in crops] == [False] * 3 + [True] * 3
    for plain, mirrored in zip(crops[:3], crops[3:], strict=True):
        assert np.array_equal(cut(image, mirrored), cut(image, plain)[:, ::-1])


def test_drawn_corners_are_keyed_by_the_sample_and_spread_over_the_room():
    variants = Variants(flip=False, crops=3, seed=0)
    assert variants.of(7, (64, 128), (64, 64)) == variants.of(7, (64, 128), (64, 64))
    lefts = [[crop.left for crop in variants.of(i, (64, 128), (64, 64))] for i in range(400)]
    assert {row[0] for row in lefts} == {32}
    drawn = np.array(lefts)[:, 1:]
    assert drawn.min() == 0 and drawn.max() == 64 and abs(drawn.mean() - 32) < 2.0
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.2
    other = Variants(flip=False, crops=3, seed=1).of(7, (64, 128), (64, 64))
    assert other[0] == variants.of(7, (64, 128), (64, 64))[0] and other[1:] != lefts[7][1:]
