"""The rules that make samples of records."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldm.data.images import decode, encode_png
from ldm.data.preparing.picture_rules import PictureRules, Prepared, safe_key
from ldm.data.source import Bad, Record
from tests.data.preparing.test_prepare import RULES


def picture(height: int = 30, width: int = 40, kind: str = "JPEG", **more: Any) -> bytes:
    rng = np.random.default_rng(height * width)
    image = Image.fromarray(rng.integers(0, 256, (height // 5, width // 5, 3), np.uint8))
    buffer = io.BytesIO()
    image.resize((width, height)).save(buffer, format=kind, **more)
    return buffer.getvalue()


def apply(data: Any, captions: tuple[Any, ...] = ("a",), meta=None, **changes) -> Prepared | Bad:
    rules = PictureRules(**RULES | {"size_px": 16} | changes)
    return rules.apply(Record("k", data, captions, meta or {}))


def made(*args: Any, **changes: Any) -> Prepared:
    found = apply(*args, **changes)
    assert isinstance(found, Prepared), found
    return found


@pytest.mark.parametrize(
    "size, square, expected",
    [
        (16, True, (16, 16)),
        (16, False, (16, 21)),  # 40 / 30 * 16 = 21.3
        (60, False, (60, 80)),
        (None, True, (30, 30)),
        (None, False, (30, 40)),
    ],
)
def test_scaling_and_cutting(size, square, expected):
    found = made(picture(), size_px=size, square=square)
    assert found.pixels.shape == (*expected, 3)
    assert np.array_equal(decode(found.picture), found.pixels) and found.extension == "png"
    assert found.meta == {"original_height": 30, "original_width": 40}
    turned = made(picture(40, 30), size_px=size, square=square)
    assert turned.pixels.shape == (*expected[::-1], 3)


def test_the_square_is_the_middle_and_equals_scaling_the_whole():
    whole = made(picture(100, 160, "PNG"), square=False, size_px=20).pixels
    square = made(picture(100, 160, "PNG"), square=True, size_px=20).pixels
    assert np.abs(whole[:, 6:26].astype(int) - square.astype(int)).mean() < 2.0


def test_encodings():
    jpeg = picture()
    kept = made(jpeg, encoding="keep", size_px=None, square=False)
    assert kept.picture is jpeg and kept.extension == "jpg"
    assert np.array_equal(kept.pixels, decode(jpeg))
    for kind, extension in (("WEBP", "webp"), ("PNG", "png"), ("GIF", "png"), ("TIFF", "png")):
        found = made(picture(kind=kind), encoding="keep", size_px=None, square=False)
        assert found.extension == extension
        assert (found.picture == picture(kind=kind)) is (kind not in ("GIF", "TIFF"))
    buffer = io.BytesIO()
    Image.new("RGBA", (20, 20), (255, 0, 0, 128)).save(buffer, format="PNG")
    opaque = made(buffer.getvalue(), encoding="keep", size_px=None, square=False)
    assert opaque.picture != buffer.getvalue() and decode(opaque.picture)[0, 0].tolist() == [
        128,
        0,
        0,
    ]
    small = made(picture(), encoding="jpeg")
    assert small.extension == "jpg" and small.picture[:2] == b"\xff\xd8"


def test_grey_and_several_channels():
    found = made(picture(), channels=1)
    assert found.pixels.shape == (16, 16, 1)
    assert Image.open(io.BytesIO(found.picture)).mode == "L"
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 5), np.uint8)
    found = made(array, channels=5)
    assert found.extension == "npy" and found.pixels.shape == (16, 16, 5)
    assert apply(array) == Bad("k", "5 channels, not data.channels=3")
    assert apply(picture(), channels=5) == Bad("k", "3 channels, not data.channels=5")


@pytest.mark.parametrize(
    "captions, expected",
    [
        ((), ("",)),
        ((" a \n b ",), ("a b",)),
        (("x" * 10_000,), ("x" * 10_000,)),
        (("", "b", "c\0", None, "d"), ("b", "d")),
        (("",), "empty caption"),
        ((None,), "missing caption"),
        (("a\0b",), "NUL in caption"),
        (("\udcff",), "caption is not UTF-8"),
    ],
)
def test_captions(captions, expected):
    found = apply(picture(), captions)
    if isinstance(expected, str):
        assert found == Bad("k", expected)
    else:
        assert isinstance(found, Prepared) and found.captions == expected


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"min_size_px": 31}, "smaller than data.min_size_px=31"),
        ({"max_aspect_ratio": 1.3}, "aspect ratio above data.max_aspect_ratio=1.3"),
        ({"min_caption_chars": 2}, "caption below data.min_caption_chars=2"),
        ({"max_caption_chars": 0}, "caption above data.max_caption_chars=0"),
        ({"where": {"license": ["cc0"]}}, "license is none of data.where.license"),
        ({"where": {"absent": [1]}}, "no column absent, so none of data.where.absent"),
    ],
)
def test_filters(changes, reason):
    assert apply(picture(), meta={"license": "by"}, **changes) == Bad("k", reason, True)
    fitting = {"min_size_px": 30, "max_aspect_ratio": 1.34, "where": {"license": ["cc0", "by"]}}
    made(picture(), ("a",), {"license": "by"}, **fitting)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"<html>", "not a picture"),
        (picture()[:-200], "truncated or damaged picture"),
        (encode_png(np.zeros((40, 40, 3), np.uint8)), "too many pixels"),
        (np.zeros((1, 700, 3), np.uint8), "too many pixels"),  # would be 16 x 11200
    ],
)
def test_unusable_pictures(data, reason):
    found = apply(data, max_pixels=1500, square=False)
    assert isinstance(found, Bad) and found.reason.startswith(reason) and not found.is_filtered


def test_metadata_keep_an_earlier_size_and_must_be_json():
    earlier = {"original_height": 3000, "original_width": 4000, "url": "x"}
    assert made(picture(), meta=earlier).meta == earlier
    for wrong in ({"original_height": None, "original_width": 3}, {"original_width": 3}):
        found = made(picture(), meta=wrong).meta
        assert (found["original_height"], found["original_width"]) == (30, 40)
    assert apply(picture(), meta={"x": b"bytes"}) == Bad("k", "metadata that is not JSON")


def test_keys():
    assert safe_key("a-B_3") == "a-B_3"
    assert safe_key("cats/tom 1.jpg").startswith("cats_tom_1-")
    assert len({safe_key(key) for key in ("a b", "a.b", "a/b", "a_b", "ü", "")}) == 6


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"where": {"license": "cc0"}}, r"'cc0' for license.*in brackets.*\[cc0, cc-by\]"),
        ({"where": {"size": 5}}, "5 for size, where a list"),
        ({"where": {"license": []}}, "where a list"),
        ({"where": ["license"]}, "must name columns"),
        ({"max_pixels": 0}, "data.max_pixels=0 must be at least 1"),
        ({"max_pixels": 2**30, "size_px": None}, "than the 200000000 pixels that are read"),
        ({"min_size_px": -1}, "data.min_size_px=-1 at least 0"),
        ({"min_caption_chars": -1}, "data.min_caption_chars=-1 must be at least 0"),
        ({"max_caption_chars": -1}, "data.max_caption_chars=-1 no less"),
        ({"min_caption_chars": 9, "max_caption_chars": 8}, "data.max_caption_chars=8 no less"),
        ({"encoding": "gif"}, "allowed: png, jpeg, keep"),
        ({"encoding": "keep"}, "data.size_px=null data.square=false"),
        ({"encoding": "jpeg", "channels": 5}, "no 5 channels"),
        ({"background": [0, 0]}, "data.background"),
        ({"background": [0, 0, 256]}, "data.background"),
        ({"size_px": 0}, "at least 1"),
        ({"max_aspect_ratio": 0.5}, "at least 1"),
    ],
)
def test_mistakes_are_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        PictureRules(**RULES | changes)
