"""Pictures between bytes, arrays and tensors, by documented rules.

Whatever a file holds, ``decode`` gives 8-bit sRGB:

| what the file holds | what comes of it |
|---|---|
| EXIF (or XMP) orientation, all eight | applied; unreadable EXIF is ignored |
| ICC profile | converted to sRGB; one that is broken or of another mode is ignored |
| transparency: RGBA, grey with alpha, palettes | laid over the background |
| palette, one bit, grey, YCbCr, Lab | becomes RGB |
| CMYK | inverted as Adobe writes it, marked or not; by its profile, else by complement |
| 16 bits of grey | divided by 257 and rounded |
| 16 bits of RGB or RGBA | the upper eight |
| floating point | refused: its range is not defined |
| an animation (GIF, WebP, APNG) | the first frame |
| progressive JPEG | as any JPEG |
| truncated or damaged pixels | refused, never filled with grey |
| nothing; HTML or text under a picture's name | refused |
| a wrong extension | read as what it is |
| more than ``max_pixels``, by the header | refused before anything is decoded |
| PNG texts or profiles that inflate beyond 1 MB | refused |
| 1 x 60000 and the like | decoded; ``fit`` cuts before it scales |
"""

import io
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms
from torch import Tensor

from ldm.data.arrays import resized, within_range

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
WHITE = (255, 255, 255)
MAX_PIXELS = 200_000_000  # a decoded picture of 600 MB; larger ones are taken for an attack
# In place of Pillow's own limit, which would refuse 179 million whatever ``max_pixels`` says; for
# good and not while a picture is opened, since threads share it.
Image.MAX_IMAGE_PIXELS = None
_ORIENTATION = 0x0112
_TURNS = {  # EXIF orientation -> how to undo it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    data: bytes,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
    at_least_px: int | None = None,
) -> NDArray[np.uint8]:
    """The picture in ``data`` as sRGB, uint8 (H, W, 3); errors are those of ``decode_layers``.

    With ``at_least_px`` a JPEG may come at 1/2, 1/4 or 1/8 of its size, both sides at least twice
    ``at_least_px``: up to three times faster, and after ``fit`` to ``at_least_px`` at 43 to 57 dB
    (PSNR) from the whole, on photographs; with sides of at least once that size it would be 35.
    """
    pixels, opacity = decode_layers(data, max_pixels, at_least_px)
    if opacity is None:
        return pixels
    image, alpha = Image.fromarray(pixels), Image.fromarray(opacity)
    return np.array(Image.composite(image, Image.new("RGB", image.size, background), alpha))


def decode_layers(
    data: bytes, max_pixels: int = MAX_PIXELS, at_least_px: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """The colours (H, W, 3) and the opacity (H, W), uint8; None for one without transparency.

    ValueError with a short reason, the same text for the same kind of fault so that faults can be
    counted: empty file, not a picture of a known format, too many pixels, truncated or damaged,
    floating-point pixels.
    """
    with warnings.catch_warnings():
        # Odd metadata is no fault of pixels.
        warnings.simplefilter("ignore")
        image = _opened(data)
        if image.width * image.height > max_pixels:
            raise ValueError("too many pixels")
        try:
            image.seek(0)
            if at_least_px is None:
                image.load()
            else:
                image = _reduced(image, 2 * at_least_px)
            turn = _TURNS.get(_orientation(image))
            return _to_srgb(image if turn is None else image.transpose(turn))
        except _FloatPixels as error:
            raise ValueError("floating-point pixels have no defined range") from error
        except Exception as error:  # as above: struct.error, SyntaxError, zlib.error, ...
            raise ValueError("truncated or damaged picture") from error


def picture_size(data: bytes) -> tuple[int, int]:
    """Height and width of the picture in ``data`` as ``decode`` gives it, from its header alone.

    Of any number of pixels. ValueError with the other reasons of ``decode_layers``, for what a
    header can tell.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return upright_size(_opened(data))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an opened picture as ``decode`` gives it."""
    # Of a TIFF, Pillow turns the size that it tells itself.
    turned = image.format != "TIFF" and _orientation(image) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One channel (H, W, 1) of a picture (H, W, 3): luma by ITU-R 601, grey stays as it is."""
    return np.array(Image.fromarray(image).convert("L"))[..., None]


def _opened(data: bytes) -> Image.Image:
    if not data:
        raise ValueError("empty file")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # parsers of hostile bytes raise anything
        raise ValueError(f"not a picture ({', '.join(FORMATS)})") from error


def _reduced(image: Image.Image, at_least_px: int) -> Image.Image:
    """A JPEG loaded at the smallest power of two of its size that has such sides; others whole."""
    drafted = image.draft(None, (at_least_px, at_least_px))
    image.load()
    if drafted is None or drafted[1][2:] == image.size:
        return image
    # Sides are rounded up, and the last pixels lie outside of the picture by a fraction. Left
    # there, they would shift the others: 36 dB instead of 53 for 1411 pixels at 1/8.
    size = (round(drafted[1][2]), round(drafted[1][3]))
    return image.resize(size, Image.Resampling.BICUBIC, box=drafted[1])


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as above; the pixels are as good as without it
        return 1
    return orientation if orientation in _TURNS else 1


class _FloatPixels(Exception):
    """Raised inside ``decode`` only, to tell this fault from damage."""


def _to_srgb(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    if image.mode == "F":
        raise _FloatPixels
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):  # 16 bits of grey, in one of several layouts
        return np.repeat(_eight_bits(np.asarray(image))[..., None], 3, axis=2), None
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    alpha = image.convert("RGBA").getchannel("A") if transparent else None
    if transparent or image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")  # also drops alpha, kept above
    if profile:
        image = _apply_profile(image, profile)
    if image.mode != "RGB":  # converting copies, even to the same mode
        image = image.convert("RGB")
    return np.array(image), None if alpha is None else np.array(alpha)


def _eight_bits(wide: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey of 16 bits (H, W) divided by 257 and rounded, a few rows at once to spare memory."""
    narrow = np.empty(wide.shape, np.uint8)
    rows = max(1, 2**20 // wide.shape[1])
    for top in range(0, len(wide), rows):
        strip = wide[top : top + rows].astype(np.int32).clip(0, 65535)
        narrow[top : top + rows] = (strip + 128) // 257  # 257 is odd: nothing lies half-way
    return narrow


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB; as it is when the profile is broken or meant for another mode."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted if converted is not None else image


def fit(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The middle of a picture (H, W, C) resized to ``size`` (height, width).

    The same as scaling it to cover ``size`` (Lanczos, antialiased) and a centre crop, without ever
    holding the long side of a panorama at full length. Channels and type as ``arrays`` knows them.
    """
    return within_range(_fit(image, size, Image.Resampling.LANCZOS))


def fit_layers(
    image: NDArray[np.uint8], opacity: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture (H, W, 3) and its opacity (H, W), as ``decode_layers`` gives them, by ``fit``.

    Colours are weighted by their opacity: what transparent pixels hide does not bleed into others.
    """
    by, weight = Image.Resampling.LANCZOS, opacity / np.float32(255.0)
    colours = np.stack([_fit(image[..., c] * weight, size, by) for c in range(3)], -1)
    fitted = _fit(weight, size, by)
    colours /= np.maximum(fitted, 1.0 / 255.0)[..., None]
    pixels, opacity = (part.round().clip(0, 255) for part in (colours, fitted * 255.0))
    return pixels.astype(np.uint8), opacity.astype(np.uint8)


def fit_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (H, W) cut and resized like its picture by ``fit``, each pixel from the nearest."""
    return _fit(mask.astype(np.uint8), size, Image.Resampling.NEAREST).astype(np.bool_)


def _fit(image: NDArray[Any], size: tuple[int, int], by: Image.Resampling) -> NDArray[Any]:
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    used_height = height if height * size[1] <= width * size[0] else width * size[0] / size[1]
    used_width = used_height * size[1] / size[0]
    left, top = (width - used_width) / 2, (height - used_height) / 2
    box = (left, top, left + used_width, top + used_height)
    return resized(image, (size[1], size[0]), box, by)


def extended(image: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of ``known`` pixels (H, W), with its edges drawn out over the others.

    These take the nearest known pixel of their row, rows without any the nearest row.
    """
    for axis in (1, 0):
        size = known.shape[axis]
        place = np.arange(size).reshape((1, -1) if axis else (-1, 1))
        before = np.maximum.accumulate(np.where(known, place, -size), axis)
        later = np.where(known, place, 2 * size)
        after = np.flip(np.minimum.accumulate(np.flip(later, axis), axis), axis)
        nearest = np.where(place - before <= after - place, before, after).clip(0, size - 1)
        image = np.take_along_axis(image, nearest[..., None], axis)
        known = np.broadcast_to(known.any(axis, keepdims=True), known.shape)
    return image


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """A picture (H, W, 3) as PNG, without metadata: equal pictures are equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def to_tensor(image: NDArray[Any]) -> Tensor:
    """(..., H, W, C) -> float32 (..., C, H, W) in [-1, 1], which float32 pixels are in already.

    Integers are spread from the lowest to the highest of their type: uint8 or uint16.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3)
    if image.dtype == np.float32:
        return pixels.contiguous()
    half = np.iinfo(image.dtype).max / 2
    return pixels.to(torch.float32).div_(half).sub_(1.0).contiguous()


def to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """Float (..., C, H, W) in [-1, 1] -> uint8 (..., H, W, C): clipped and rounded, not truncated.

    The inverse of ``to_tensor`` for every value. NaN becomes middle grey.
    """
    pixels = image.detach().to("cpu", torch.float32).nan_to_num(0.0, 1.0, -1.0)
    pixels = ((pixels.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
    result: NDArray[np.uint8] = pixels.movedim(-3, -1).contiguous().numpy()
    return result


def visible(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, C) for the eye: (H, W) if grey, else its first three channels (H, W, 3)."""
    channels = image.shape[-1]
    return image[..., :3] if channels >= 3 else image[..., 0]
