"""The rules that make samples of records, the same for every source."""

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldm.data import arrays, images
from ldm.data.preparing.caption_rules import CaptionRules
from ldm.data.source import Bad, Record
from ldm.ranges import AtLeast, Between, Count, Length, Natural

ENCODINGS = ("png", "jpeg", "keep")
JPEG_QUALITY = 95
_KEPT = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}


class Prepared(NamedTuple):
    """A sample as it goes into a shard."""

    key: str
    extension: str  # of the picture: png, jpg, webp or npy
    picture: bytes
    pixels: NDArray[Any]  # (H, W, C), what ``picture`` was made of
    captions: tuple[str, ...]
    meta: dict[str, Any]


class PictureRules:
    """Which pictures and captions are taken, and how they are stored.

    ``size_px``: the shorter side, smaller pictures are enlarged; None keeps every size. ``square``
    cuts to the middle square. ``encoding``: png (lossless), jpeg (quality 95), or keep: the
    source's own bytes, checked but untouched, where shards can hold them (JPEG, PNG and WebP
    without transparency; others become PNG). ``channels``: 3 is sRGB, 1 is grey, pictures of other
    numbers come and are stored as .npy. ``background`` (red, green, blue) is laid under
    transparent pictures. The rest are filters: ``where`` takes only records whose column of the
    metadata has one of the values named. ValueError for settings that make no sense together.
    """

    def __init__(
        self,
        *,
        size_px: Count | None,
        square: bool,
        encoding: Literal["png", "jpeg", "keep"],
        channels: Count,
        background: Annotated[Sequence[Annotated[int, Between(0, 255)]], Length(3)],
        max_pixels: Count,
        min_size_px: Natural,
        max_aspect_ratio: Annotated[float, AtLeast(1)] | None,
        min_caption_chars: Natural,
        max_caption_chars: Natural | None,
        where: Mapping[str, Sequence[Any]] | None,
    ) -> None:
        if encoding not in ENCODINGS:
            raise ValueError(
                f"data.encoding={encoding!r} is not known; allowed: {', '.join(ENCODINGS)}."
            )
        if encoding == "keep" and (size_px is not None or square or channels != 3):
            raise ValueError(
                "data.encoding=keep stores pictures as they are, so none can be scaled, cut or "
                "changed in colour: set data.size_px=null data.square=false data.channels=3."
            )
        if encoding == "jpeg" and channels not in (1, 3):
            raise ValueError(f"data.encoding=jpeg has no {channels} channels; use png.")
        if len(background) != 3 or not all(0 <= value <= 255 for value in background):
            raise ValueError(
                f"data.background={list(background)} must be three numbers from 0 to 255, e.g. "
                "data.background=[255,255,255]."
            )
        if (size_px is not None and size_px < 1) or channels < 1:
            raise ValueError(
                f"data.size_px={size_px}, data.channels={channels}: each must be at least 1."
            )
        if max_aspect_ratio is not None and max_aspect_ratio < 1:
            raise ValueError(
                f"data.max_aspect_ratio={max_aspect_ratio} is longer side / shorter side: at least "
                "1, e.g. 2, or null for any."
            )
        if max_pixels < 1 or min_size_px < 0:
            raise ValueError(
                f"data.max_pixels={max_pixels} must be at least 1, and "
                f"data.min_size_px={min_size_px} at least 0."
            )
        if size_px is None and max_pixels > images.MAX_PIXELS:
            raise ValueError(
                f"data.max_pixels={max_pixels} with data.size_px=null would store pictures larger "
                f"than the {images.MAX_PIXELS} pixels that are read from shards; lower it, or set "
                "data.size_px."
            )
        self.size_px, self.square, self.encoding, self.channels = (
            size_px,
            square,
            encoding,
            channels,
        )
        self.background = (int(background[0]), int(background[1]), int(background[2]))
        self.max_pixels, self.min_size_px = max_pixels, min_size_px
        self.max_aspect_ratio = max_aspect_ratio
        self.captions = CaptionRules(min_caption_chars, max_caption_chars)
        self.captions.require_possible()
        self.where = _where(where)

    def settings(self) -> dict[str, Any]:
        """What determines the result, JSON-able."""
        own = {**vars(self), "background": list(self.background), **self.captions._asdict()}
        names = {"min_chars": "min_caption_chars", "max_chars": "max_caption_chars"}
        return {names.get(name, name): value for name, value in own.items() if name != "captions"}

    def apply(self, record: Record) -> Prepared | Bad:
        """The sample of a record, or why there is none; cheap rules come first."""
        name = printable(record.key)
        for column, allowed in self.where.items():
            if record.meta.get(column) not in allowed:
                has = f"{column} is" if column in record.meta else f"no column {column}, so"
                return Bad(name, f"{has} none of data.where.{column}", is_filtered=True)
        captions, fault, is_filtered = self.captions.apply(record.captions)
        if fault is not None:
            return Bad(name, fault, is_filtered)
        try:
            height, width = self._size(record.picture)
            if fault := self._too_small_or_long(height, width):
                return Bad(name, fault, is_filtered=True)
            pixels = self._fitted(self._pixels(record.picture), width / height)
            extension, picture = self._encoded(record.picture, pixels)
            meta = _with_size(record.meta, height, width)
            json.dumps(meta)
        except (TypeError, RecursionError):
            return Bad(name, "metadata that is not JSON")
        except ValueError as error:
            return Bad(name, str(error))
        return Prepared(safe_key(record.key), extension, picture, pixels, captions, meta)

    def _size(self, picture: bytes | NDArray[Any]) -> tuple[int, int]:
        """Height and width of the original."""
        if isinstance(picture, np.ndarray):
            height, width = picture.shape[:2]
        elif picture.startswith(arrays.MAGIC):
            height, width, _ = arrays.array_shape(picture)
        elif not picture:
            raise ValueError("empty file")
        else:
            height, width = images.picture_size(picture)
        if height * width > self.max_pixels:
            raise ValueError("too many pixels")
        return height, width

    def _too_small_or_long(self, height: int, width: int) -> str | None:
        if min(height, width) < self.min_size_px:
            return f"smaller than data.min_size_px={self.min_size_px}"
        ratio = max(height, width) / min(height, width)
        if self.max_aspect_ratio is not None and ratio > self.max_aspect_ratio:
            return f"aspect ratio above data.max_aspect_ratio={self.max_aspect_ratio:g}"
        return None

    def _pixels(self, picture: bytes | NDArray[Any]) -> NDArray[Any]:
        """The picture (H, W, channels), still as large as it comes, or reduced but large enough."""
        if isinstance(picture, np.ndarray):
            pixels = picture
        elif picture.startswith(arrays.MAGIC):
            found = arrays.array_shape(picture)[2]
            pixels = arrays.decode_array(picture, found, self.max_pixels)
        else:
            pixels = images.decode(
                picture, self.background, self.max_pixels, at_least_px=self.size_px
            )
        found = pixels.shape[2]
        if self.channels == 1 and found == 3 and pixels.dtype == np.uint8:
            return images.grey(pixels)
        if self.channels == 3 and found == 1:
            return pixels.repeat(3, axis=2)
        if found != self.channels:
            raise ValueError(f"{found} channels, not data.channels={self.channels}")
        return pixels

    def _fitted(self, pixels: NDArray[Any], ratio: float) -> NDArray[Any]:
        """Scaled and cut; ``ratio`` is width / height of the original."""
        height, width = pixels.shape[:2]
        if self.square and self.size_px is not None:
            return images.fit(pixels, (self.size_px, self.size_px))
        if self.square:
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            return pixels[top : top + side, left : left + side]
        if self.size_px is None or self.size_px == min(height, width):
            return pixels
        longer = max(self.size_px, round(self.size_px * max(ratio, 1.0 / ratio)))
        size = (self.size_px, longer) if ratio < 1.0 else (longer, self.size_px)
        if size[0] * size[1] > self.max_pixels:
            raise ValueError("too many pixels")
        whole = (0.0, 0.0, float(width), float(height))
        return arrays.within_range(arrays.resized(pixels, size, whole))

    def _encoded(self, picture: bytes | NDArray[Any], pixels: NDArray[Any]) -> tuple[str, bytes]:
        """How the picture is named and stored: .npy for what no picture format holds."""
        if self.channels not in (1, 3) or pixels.dtype != np.uint8:
            return "npy", arrays.encode_array(pixels)
        if self.encoding == "keep" and (extension := _kept_extension(picture)):
            assert isinstance(picture, bytes)
            return extension, picture
        kind = "JPEG" if self.encoding == "jpeg" else "PNG"
        buffer = io.BytesIO()
        more: dict[str, Any] = {"quality": JPEG_QUALITY} if kind == "JPEG" else {}
        shown = pixels[..., 0] if self.channels == 1 else pixels
        Image.fromarray(shown).save(buffer, format=kind, **more)
        return {"JPEG": "jpg", "PNG": "png"}[kind], buffer.getvalue()


def _where(where: Any) -> dict[str, list[Any]]:
    """The values allowed by column; ValueError for what is no such table."""
    example = "data.where={license: [cc0, cc-by]}"
    if where is None:
        return {}
    if not isinstance(where, Mapping):
        raise ValueError(f"data.where={where!r} must name columns with lists, e.g. '{example}'.")
    for column, values in where.items():
        if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not values:
            raise ValueError(
                f"data.where has {values!r} for {column}, where a list of values belongs, in "
                f"brackets, e.g. '{example}'."
            )
    return {str(column): list(values) for column, values in where.items()}


def safe_key(key: str) -> str:
    """The key as tar files and webdataset can hold it: as it is, or its readable end and a hash."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key):
        return key
    readable = re.sub(r"[^A-Za-z0-9]+", "_", key.rpartition(".")[0] or key).strip("_")
    return f"{readable[-48:]}-{key_hash(key)[:5].hex()}"


def key_hash(key: str) -> bytes:
    """The sha256 of a key, whatever bytes a file name was made of."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def printable(key: str) -> str:
    """A key as text that can be written anywhere."""
    return key.encode("utf-8", "backslashreplace").decode()


def _with_size(meta: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """The metadata with the size of this picture, but where they tell of an earlier original."""
    earlier = [meta.get("original_height"), meta.get("original_width")]
    if all(type(side) is int and 0 < side < 2**31 for side in earlier):
        return dict(meta)
    return {**meta, "original_height": height, "original_width": width}


def _kept_extension(picture: bytes | NDArray[Any]) -> str | None:
    """How the file is named in a shard, None where it cannot be stored as it is."""
    if not isinstance(picture, bytes) or picture.startswith(arrays.MAGIC):
        return None
    with Image.open(io.BytesIO(picture), formats=images.FORMATS) as image:
        transparent = image.has_transparency_data
        return None if transparent else _KEPT.get(image.format or "")
