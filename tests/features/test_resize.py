"""The kernels by which pictures are resized, against the programs they are named after."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.features.resize import KERNELS, half_pixel, kernel, pillow, pillow_float, tensorflow_1


def levels(*shape):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("size", [(32, 33), (64, 20), (299, 299), (301, 512)])
def test_tensorflows_corners_are_torch_fidelitys_to_the_bit(size):
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    images = levels(2, 3, *size)
    expected = interpolate_bilinear_2d_like_tensorflow1x(
        images, size=(299, 299), align_corners=False
    )
    assert torch.equal(tensorflow_1(images, (299, 299)), expected)


def test_tensorflows_corners_by_hand():
    row = torch.tensor([0.0, 10.0, 20.0]).view(1, 1, 1, 3)
    found = tensorflow_1(row, (1, 6)).flatten()
    assert found.tolist() == [0.0, 5.0, 10.0, 15.0, 20.0, 20.0]  # the border is repeated
    assert tensorflow_1(row.expand(1, 1, 3, 3), (1, 1)).item() == 0.0  # the corner, no average


def test_the_clean_kernel_is_pillows_on_floats_clipped_and_not_rounded():
    images = (levels(2, 3, 40, 64) > 127).float() * 255  # overshoots at every edge
    found = pillow_float(images, (29, 31))
    for picture, ours in zip(images, found, strict=True):
        for channel, our in zip(picture, ours, strict=True):
            mode_f = Image.fromarray(channel.numpy())
            assert mode_f.mode == "F"
            theirs = np.array(mode_f.resize((31, 29), Image.Resampling.BICUBIC))
            assert np.array_equal(our.numpy(), theirs.clip(0, 255)) and theirs.max() > 256
    assert (found != found.round()).float().mean() > 0.5


def test_half_pixels_are_torchs():
    images = levels(1, 3, 20, 24)
    expected = torch.nn.functional.interpolate(
        images / 255, size=(299, 299), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(half_pixel(images, (299, 299)) / 255, expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_eight_bit_pictures_are_resized_as_image_loaders_do(interpolation):
    images = levels(2, 3, 30, 50).to(torch.uint8)
    found = pillow(images, (14, 20), interpolation)
    for picture, ours in zip(images, found, strict=True):
        theirs = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize(
            (20, 14), Image.Resampling[interpolation.upper()]
        )
        assert np.array_equal(ours.permute(1, 2, 0).numpy(), np.array(theirs))
    assert pillow(images, (30, 50), interpolation) is images


def test_a_protocol_tells_kernels_apart_and_names_of_one_kernel_not():
    said = {name: str(kernel(name).protocol((299, 299))) for name in KERNELS}
    assert said["torch_fidelity"] == said["original"]
    assert len(set(said.values())) == 3
    assert kernel("clean_fid").protocol((299, 299)) == {
        "kernel": "bicubic, Pillow on floats",
        "antialias": True,
        "size_px": [299, 299],
        "range": "(level - 128) / 128",
    }


def test_unknown_names_are_answered_with_those_that_exist():
    with pytest.raises(ValueError, match="resize='clean' is unknown.*torch_fidelity.*clean_fid"):
        kernel("clean")
    with pytest.raises(ValueError, match="interpolation='cubic'.*bicubic"):
        pillow(levels(1, 3, 4, 4).to(torch.uint8), (2, 2), "cubic")
