"""Pictures inside the page: embedded as data, sheets cut back into their pictures."""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

_GAP = 2  # white pixels between the pictures of a sheet
_LARGEST_PNG = 24_000  # bytes; a photograph beyond it is embedded as JPEG
_STEP = re.compile(r"step_(\d+)\.png")


def opened(path: Path) -> Image.Image | None:
    """The picture in RGB; None if it is missing or damaged (a report shows what there is)."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError:
        return None


def img(image: Image.Image, text: str, *, wide_px: int, narrow_px: int) -> str:
    """An <img> about ``wide_px`` wide, ``narrow_px`` on a telephone, for ``text`` on hovering.

    Small pictures are enlarged by whole factors with hard pixels; large ones are reduced to
    twice their shown width before they are embedded.
    """
    if image.width > 2 * wide_px:
        height = max(1, round(image.height * 2 * wide_px / image.width))
        image = image.resize((2 * wide_px, height), Image.Resampling.LANCZOS)
    sizes = [
        image.width * max(1, round(about / image.width)) if image.width <= about * 1.25 else about
        for about in (wide_px, narrow_px)
    ]
    enlarged = all(size % image.width == 0 for size in sizes)
    kind, text = "pixels" if enlarged else "smooth", escape(text)
    return (
        f'<img class="{kind}" src="{_data(image)}" alt="{text}" title="{text}" '
        f'width="{image.width}" height="{image.height}" '
        f'style="--wide:{sizes[0]}px;--narrow:{sizes[1]}px">'
    )


def _data(image: Image.Image) -> str:
    buffer, kind = io.BytesIO(), "png"
    image.save(buffer, format="PNG", optimize=True)
    if buffer.tell() > _LARGEST_PNG:
        buffer, kind = io.BytesIO(), "jpeg"
        image.save(buffer, format="JPEG", quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def sheets(directory: Path) -> dict[int, Path]:
    """The sheets ``step_000000100.png`` of a run's samples/ by step, in order."""
    found = {int(m[1]): p for p in directory.glob("step_*.png") if (m := _STEP.fullmatch(p.name))}
    return dict(sorted(found.items()))


def spread(steps: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of the steps, evenly over training, with the first and the last."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def cut(sheet: Image.Image, side_px: int | None) -> list[Image.Image]:
    """The pictures of a sheet, row by row, without empty places; the sheet itself if not cut."""
    if side_px is None:
        return [sheet]
    pitch = side_px + _GAP
    found = [
        sheet.crop((left, top, left + side_px, top + side_px))
        for top in range(0, sheet.height, pitch)
        for left in range(0, sheet.width, pitch)
    ]
    while len(found) > 1 and found[-1].getextrema() == ((255, 255),) * 3:
        found.pop()
    return found


def side_px(sheet: Image.Image) -> int | None:
    """The side of the square pictures of a sheet, read from its white gaps; None if not found."""
    pixels = np.asarray(sheet)
    white_columns = (pixels == 255).all(axis=(0, 2))
    white_rows = (pixels == 255).all(axis=(1, 2))
    for side in _divisors(sheet.width + _GAP, sheet.height + _GAP):
        pitch = side + _GAP
        gaps = [np.arange(n) % pitch >= side for n in (sheet.width, sheet.height)]
        if white_columns[gaps[0]].all() and white_rows[gaps[1]].all():
            return side
    return None


def _divisors(width: int, height: int) -> Iterator[int]:
    """Sides of at least 8 pixels whose pitch divides both, ascending."""
    for pitch in range(8 + _GAP, min(width, height) + 1):
        if width % pitch == 0 and height % pitch == 0:
            yield pitch - _GAP
