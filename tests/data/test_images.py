"""Decoding by documented rules, and pictures between arrays and tensors."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from ldm.data import images


def _bytes(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def _noise(height: int = 40, width: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_rgb_is_exact_and_grey_and_one_bit_become_rgb():
    image = _noise()
    assert np.array_equal(images.decode(_bytes(image)), np.asarray(image))
    grey = images.decode(_bytes(image.convert("L")))
    assert grey.shape == (40, 60, 3) and (grey == grey[..., :1]).all()
    assert set(np.unique(images.decode(_bytes(image.convert("1"))))) <= {0, 255}


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    pixels = images.decode(_bytes(image, "JPEG", exif=exif, quality=95))
    assert pixels.shape == (40, 20, 3)
    assert pixels[5, 10, 0] > 200 and pixels[35, 10, 2] > 200


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 128, 255)])
def test_transparency_is_laid_over_the_background(background):
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    image.putpixel((0, 0), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 128))
    pixels = images.decode(_bytes(image), background)
    assert tuple(pixels[0, 0]) == (200, 0, 0)
    assert tuple(pixels[3, 3]) == background
    half = 128 / 255 * np.array([200, 0, 0]) + 127 / 255 * np.array(background)
    assert np.abs(pixels[0, 1] - half).max() <= 1


def test_palette_with_transparency():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 1)
    pixels = images.decode(_bytes(image, transparency=0))
    assert tuple(pixels[0, 0]) == (200, 100, 50) and tuple(pixels[2, 2]) == (255, 255, 255)


def test_cmyk_and_sixteen_bits():
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    pixel = images.decode(_bytes(cyan, "JPEG", quality=95))[8, 8].astype(int)
    assert pixel[0] < 40 and pixel[1] > 150 and pixel[2] > 150
    grey = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    for format in ("PNG", "TIFF"):
        assert images.decode(_bytes(grey, format))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_icc_profile_is_converted_and_a_broken_one_ignored():
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = images.decode(_bytes(image, icc_profile=srgb)).astype(int)
    assert np.abs(same - np.asarray(image)).max() <= 1
    assert np.array_equal(images.decode(_bytes(image, icc_profile=b"broken")), np.asarray(image))
    # A profile whose red and blue primaries are swapped must swap the channels.
    swapped = bytearray(srgb)
    red, blue = srgb.index(b"rXYZ"), srgb.index(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    pixel = images.decode(_bytes(image, icc_profile=bytes(swapped)))[0, 0].astype(int)
    assert np.abs(pixel - [50, 100, 200]).max() <= 3


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    data = _bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(images.decode(data)[4, 4]) == (255, 0, 0)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"no picture at all", "not a picture"),
        (_bytes(_noise(), "JPEG")[:-500], "truncated or damaged"),
        (_bytes(_noise())[:2000], "truncated or damaged"),
        (_bytes(_noise(), "PPM"), "not a picture"),
        (_bytes(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
    ],
)
def test_faults_have_short_reasons(data, reason):
    with pytest.raises(ValueError, match=reason):
        images.decode(data)


def test_too_many_pixels_are_refused_before_decoding():
    data = _bytes(Image.new("1", (5000, 5000)))
    with pytest.raises(ValueError, match="too many pixels"):
        images.decode(data, max_pixels=10_000_000)


@pytest.mark.parametrize("height, width", [(40, 60), (61, 40), (20, 20), (2, 5000)])
def test_fit_is_resize_of_the_shorter_side_and_centre_crop(height, width):
    pixels = np.asarray(_noise(height, width))
    assert images.fit(pixels, (32, 32)).shape == (32, 32, 3)
    side = min(height, width)
    flat = np.full((height, width, 3), 9, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    flat[top : top + side, left : left + side] = 200
    assert images.fit(flat, (16, 16))[4:12, 4:12].min() >= 190  # the middle survives, all of it


def test_fit_leaves_the_right_size_untouched():
    pixels = np.asarray(_noise(32, 32))
    assert np.array_equal(images.fit(pixels, (32, 32)), pixels)


def test_tensors_and_bytes_are_inverse_and_rounding_is_to_nearest():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = images.to_tensor(values)
    assert tensor.shape == (1, 3, 16, 16) and tensor.min() == -1 and tensor.max() == 1
    assert np.array_equal(images.to_uint8(tensor), values)
    assert np.array_equal(images.to_uint8(tensor + 0.49 / 127.5), values)
    assert np.array_equal(images.to_uint8(tensor - 0.49 / 127.5), values)
    wild = torch.tensor([-9.0, 9.0, torch.nan, torch.inf]).expand(3, 1, 4)
    assert images.to_uint8(wild)[0, :, 0].tolist() == [0, 255, 128, 255]


def test_layers_are_the_colours_themselves_and_the_opacity():
    image = Image.new("RGBA", (4, 3), (200, 10, 0, 0))
    image.putpixel((1, 2), (9, 8, 7, 128))
    pixels, opacity = images.decode_layers(_bytes(image))
    assert pixels.shape == (3, 4, 3) and tuple(pixels[0, 0]) == (200, 10, 0)
    assert opacity is not None and opacity[2, 1] == 128 and opacity.sum() == 128
    assert images.decode_layers(_bytes(_noise()))[1] is None


def test_a_mask_is_cut_like_its_picture_and_stays_hard():
    mask = np.zeros((40, 60), bool)
    mask[:, :20] = True  # half of it is cut off
    fitted = images.fit_mask(mask, (20, 20))
    assert fitted.dtype == bool and fitted.shape == (20, 20)
    assert fitted[:, :5].all() and not fitted[:, 5:].any()
    picture = np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255
    assert (images.fit(picture, (20, 20))[..., 0] >= 128).tolist() == fitted.tolist()
    assert (images.fit_mask(mask[:, :40], (40, 40)) == mask[:, :40]).all()


def test_what_is_hidden_does_not_bleed_when_layers_are_fitted():
    image = np.full((40, 60, 3), (90, 120, 150), np.uint8)
    opacity = np.full((40, 60), 255, np.uint8)
    image[:, 33:], opacity[:, 33:] = (255, 0, 0), 0
    pixels, fitted = images.fit_layers(image, opacity, (20, 20))
    visible = fitted >= 128
    assert visible[:, :11].all() and not visible[:, 12:].any()
    assert (pixels[visible] == (90, 120, 150)).all()


def test_layers_are_fitted_as_the_picture_alone():
    image = np.asarray(_noise()) // 2 + 64  # what rings does not reach black or white
    opacity = np.random.default_rng(0).integers(1, 256, image.shape[:2], np.uint8)
    pixels, fitted = images.fit_layers(image, np.full_like(opacity, 255), (20, 20))
    assert (fitted == 255).all()
    assert np.abs(pixels.astype(int) - images.fit(image, (20, 20))).max() <= 1
    side = min(opacity.shape)
    image, opacity = image[:side, :side], opacity[:side, :side]
    pixels, fitted = images.fit_layers(image, opacity, (side, side))
    assert (pixels == image).all() and (fitted == opacity).all()


def test_edges_are_drawn_out_over_what_is_not_known():
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    known = np.zeros((5, 6), bool)
    known[1:3, 2:4] = True
    inner = image[1:3, 2:4]
    rows, columns = [0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]
    assert (images.extended(image, known) == inner[rows][:, columns]).all()
    assert (images.extended(image, np.ones_like(known)) == image).all()
    hole = np.ones_like(known)
    hole[2, 1:5] = False  # both sides meet in the middle
    found = images.extended(image, hole)
    assert (found[2] == image[2][[0, 0, 0, 5, 5, 5]]).all() and (found[hole] == image[hole]).all()
    assert images.extended(image, np.zeros_like(known)).shape == image.shape


def test_what_is_shown_of_pictures_with_any_number_of_channels():
    image = np.arange(2 * 2 * 5, dtype=np.uint8).reshape(2, 2, 5)
    assert np.array_equal(images.visible(image), image[..., :3])
    assert np.array_equal(images.visible(image[..., :2]), image[..., 0])
