"""Every row of the table of rules in ldm/data/images.py, on pictures made here."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from ldm.data import images

WHITE = (255, 255, 255)


def _bytes(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def _gradient(width: int = 96, height: int = 64) -> Image.Image:
    """Smooth, and different in every corner: what JPEG keeps and orientation shows."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], -1).astype(np.uint8))


def _png(mode: int, depth: int, rows: list[bytes], width: int, *chunks: tuple[bytes, bytes]):
    """A PNG of colour type ``mode``, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, len(rows), depth, mode, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else np.inf


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_applied_also_when_decoded_smaller(orientation, format):
    image = _gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(format, {})
    data = _bytes(image, format, exif=exif, **lossless)
    shown = image.copy()
    shown.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(shown))
    pixels = images.decode(data)
    assert pixels.shape == upright.shape and _psnr(pixels, upright) > 35
    assert images.picture_size(data) == upright.shape[:2]
    smaller = images.decode(data, at_least_px=16)
    reduced = (32, 48) if format == "JPEG" else (64, 96)
    assert smaller.shape[:2] == (reduced if orientation < 5 else reduced[::-1])
    assert _psnr(images.fit(smaller, (16, 16)), images.fit(upright, (16, 16))) > 35


def test_exif_that_cannot_be_read_is_ignored():
    data = _bytes(_gradient(), "PNG", exif=b"Exif\0\0 no such thing")
    assert np.array_equal(images.decode(data), np.asarray(_gradient()))
    assert images.picture_size(data) == (64, 96)


@pytest.mark.parametrize("width, at_least_px, decoded", [
    (1000, 62, 125), (1000, 63, 250), (1000, 125, 250), (1000, 126, 500), (1000, 250, 500),
    (1000, 251, 1000), (999, 249, 500), (300, 4000, 300),
])  # fmt: skip
def test_a_jpeg_decoded_smaller_has_at_least_twice_the_sides(width, at_least_px, decoded):
    data = _bytes(_gradient(width, 1200), "JPEG")
    assert images.decode(data, at_least_px=at_least_px).shape[1] == decoded


@pytest.mark.parametrize(
    "name, size_px", [("astronaut", 32), ("chelsea", 32), ("chelsea", 64), ("coffee", 90)]
)
def test_decoding_smaller_is_harmless(name, size_px):
    photographs = pytest.importorskip("skimage.data")
    photograph = getattr(photographs, name)()[:-3, :-7]  # of sides that nothing divides
    data = _bytes(Image.fromarray(photograph), "JPEG", quality=95)
    whole, smaller = images.decode(data), images.decode(data, at_least_px=size_px)
    assert smaller.size <= whole.size / 3.9
    assert (
        _psnr(images.fit(smaller, (size_px, size_px)), images.fit(whole, (size_px, size_px))) > 42
    )


def test_a_reduced_cmyk_or_grey_jpeg_keeps_its_rules():
    for mode in ("CMYK", "L"):
        data = _bytes(_gradient(400, 400).convert(mode), "JPEG", quality=95)
        whole, smaller = images.decode(data), images.decode(data, at_least_px=50)
        assert smaller.shape == (100, 100, 3)
        assert _psnr(images.fit(smaller, (50, 50)), images.fit(whole, (50, 50))) > 44


@pytest.mark.parametrize("background", [WHITE, (0, 128, 255)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_of_every_kind_lies_over_the_background(mode, background):
    if mode == "P":  # a palette whose entries have an opacity each (tRNS)
        image = Image.new("P", (3, 1))
        image.putpalette([90, 90, 90] * 3)
        for x in range(3):
            image.putpixel((x, 0), x)
        data = _bytes(image, transparency=bytes([255, 128, 0]))
    else:
        image = Image.new("LA", (3, 1), (90, 255))
        image.putpixel((1, 0), (90, 128))
        image.putpixel((2, 0), (90, 0))
        data = _bytes(image.convert(mode))
    pixels = images.decode(data, background)[0].astype(float)
    half = 128 / 255 * 90 + 127 / 255 * np.array(background)
    assert pixels[0].tolist() == [90] * 3 and pixels[2].tolist() == list(background)
    assert np.abs(pixels[1] - half).max() <= 1


def test_a_colour_named_transparent_lies_under_the_background():
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (1, 2, 3))
    data = _bytes(image, transparency=(1, 2, 3))
    assert images.decode(data, (9, 9, 9))[0].tolist() == [[10, 20, 30], [9, 9, 9]]


def test_sixteen_bits_of_colour_keep_the_upper_eight():
    rgb = _png(2, 16, [struct.pack(">3H", 0x1234, 0xFFFF, 0x0080)], 1)
    assert images.decode(rgb)[0, 0].tolist() == [0x12, 0xFF, 0x00]
    rgba = _png(6, 16, [struct.pack(">8H", 0xC8C8, 0, 0, 0xFFFF, 0xC8C8, 0, 0, 0)], 2)
    assert images.decode(rgba)[0].tolist() == [[0xC8, 0, 0], [255, 255, 255]]
    grey_alpha = _png(4, 16, [struct.pack(">4H", 0x6464, 0xFFFF, 0x6464, 0)], 2)
    assert images.decode(grey_alpha)[0, :, 0].tolist() == [100, 255]


def test_cmyk_is_inverted_with_and_without_adobes_mark():
    data = _bytes(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95)
    start = data.index(b"\xff\xee")
    assert data[start + 4 : start + 9] == b"Adobe"
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    unmarked = data[:start] + data[start + 2 + length :]
    for picture in (data, unmarked):
        assert np.abs(images.decode(picture)[8, 8].astype(int) - [0, 255, 255]).max() < 8


def test_a_profile_of_another_mode_is_ignored():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = Image.new("L", (4, 4), 77)
    assert (images.decode(_bytes(grey, icc_profile=srgb)) == 77).all()
    cmyk = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    plain = images.decode(_bytes(cmyk, "TIFF"))
    assert np.array_equal(images.decode(_bytes(cmyk, "TIFF", icc_profile=srgb)), plain)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    lossless = {"lossless": True} if format == "WEBP" else {}
    data = _bytes(frames[0], format, save_all=True, append_images=frames[1:], **lossless)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert images.decode(data)[4, 4].tolist() == [255, 0, 0]


def test_a_progressive_jpeg_is_whole_or_refused():
    data = _bytes(_gradient(), "JPEG", progressive=True, quality=95)
    assert _psnr(images.decode(data), np.asarray(_gradient())) > 35
    with pytest.raises(ValueError, match="truncated or damaged"):
        images.decode(data[: len(data) // 2])


@pytest.mark.parametrize("at_least_px", [None, 16])
def test_a_truncated_jpeg_is_refused_also_when_decoded_smaller(at_least_px):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8))
    data = _bytes(noise, "JPEG")
    with pytest.raises(ValueError, match="truncated or damaged"):
        images.decode(data[: len(data) // 2], at_least_px=at_least_px)


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>404</html>", b"\n\n<html>", b"GIF89a"])
def test_what_is_no_picture_is_refused_by_header_too(page):
    for function in (images.decode, images.picture_size):
        with pytest.raises(ValueError, match="not a picture"):
            function(page)


def test_a_huge_declared_size_is_refused_before_decoding():
    bomb = _png(2, 8, [], 0).replace(
        struct.pack(">IIBB", 0, 0, 8, 2), struct.pack(">IIBB", 100_000, 100_000, 8, 2)
    )  # the header's check sum is wrong, and Pillow would refuse it for that
    bomb = bomb[:29] + struct.pack(">I", zlib.crc32(bomb[12:29])) + bomb[33:]
    assert images.picture_size(bomb) == (100_000, 100_000)
    with pytest.raises(ValueError, match="too many pixels"):
        images.decode(bomb, max_pixels=10**10 - 1)  # far above the limit that Pillow has itself


def test_sixteen_bits_of_grey_are_rounded_within_little_memory():
    wide = np.arange(2**16, dtype=np.uint16).repeat(64).reshape(2048, 2048)
    data = _bytes(Image.fromarray(wide))
    tracemalloc.start()
    pixels = images.decode(data)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (pixels == (wide / 257.0).round()[..., None]).all()
    assert memory < 10 * wide.size  # 8 are the 16 bits, read twice, the 8 bits and three channels


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_metadata_that_inflates_is_refused(kind):
    chunk = b"name\0\0" + zlib.compress(bytes(50_000_000), 9)
    data = _png(0, 8, [b"\x80"], 1, (kind, chunk))
    assert len(data) < 100_000
    with pytest.raises(ValueError, match="not a picture"):
        images.decode(data)


@pytest.mark.parametrize("size", [(1, 60000), (60000, 1)])
def test_absurd_aspect_ratios_are_cut_before_they_are_scaled(size):
    pixels = images.decode(_bytes(Image.new("RGB", size, "red")), at_least_px=8)
    assert pixels.shape == (*size[::-1], 3)
    assert (images.fit(pixels, (8, 8)) == (255, 0, 0)).all()


def test_grey_is_luma_and_grey_stays_as_it_is():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(images.grey(values.repeat(3, axis=2)), values)
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert images.grey(colours).tolist() == [[[76], [150], [29]]]  # 0.299, 0.587, 0.114
