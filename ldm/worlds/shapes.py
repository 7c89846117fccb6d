"""The world of captioned shapes: 256 kinds of picture, ten phrasings, and an exact judge.

A picture shows one shape (circle, square, triangle, cross) in one of eight colours and two sizes
on one of four backgrounds, with position, size and colours jittered. Everything is measured in
fractions of the frame, so a sample is the same picture at any resolution. The judge reads the
four attributes back from pixels by projection and template matching; nothing in it is learned.
"""

import re
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldm import random

COLORS = {
    "red": (215, 35, 40),
    "green": (40, 180, 75),
    "blue": (45, 105, 245),
    "yellow": (250, 225, 50),
    "purple": (150, 50, 200),
    "orange": (250, 135, 25),
    "white": (245, 245, 245),
    "black": (12, 12, 12),
}
SHAPES = ("circle", "square", "triangle", "cross")
BACKGROUNDS = {
    "gray": (128, 128, 128),
    "pink": (250, 175, 195),
    "navy": (20, 30, 105),
    "olive": (115, 115, 45),
}
# The radius as a fraction of the frame, smallest and largest: the gap between the classes is
# what the judge cuts in the middle.
SIZES = {"small": (6.6 / 32, 7.6 / 32), "large": (9.9 / 32, 10.9 / 32)}

TEMPLATES = (
    "a {size} {color} {shape} on {a_background} background",
    "{size} {color} {shape}, {background} background",
    "{background} background with a {size} {color} {shape}",
    "{a_color} {shape}, {size}, on {background}",
    "{a_background} picture of a {size} {color} {shape}",
    "the {shape} is {size} and {color}, the background is {background}",
    "a {size} {shape} in {color} over {background}",
    "on {background}: a {size} {color} {shape}",
    "one {size} {color} {shape} against {a_background} background",
    "{a_background} background and {a_color} {shape} that is {size}",
)

_SIZE_CUT = (SIZES["small"][1] * SIZES["large"][0]) ** 0.5
_SHIFT = 4.0 / 32  # largest shift of the shape from the middle, fraction of the frame
_MARGIN = 1.5 / 32  # the shape stays this far inside the frame: the border shows background only
_COLOR_JITTER = 9.0  # of 255, per channel, uniform to both sides
# In units of the radius: half the square's side, the triangle's circumradius, half the length and
# half the width of the cross's bars. Chosen so that the areas are close (2.55 to 3.24).
_SQUARE, _TRIANGLE, _CROSS, _BAR = 0.9, 1.4, 1.1, 0.37
_AREAS = (np.pi, 4 * _SQUARE**2, 0.75 * 3**0.5 * _TRIANGLE**2, 4 * (2 * _CROSS * _BAR - _BAR**2))
_HALF_WIDTHS = (1.0, _SQUARE, 0.5 * 3**0.5 * _TRIANGLE, _CROSS)
_ABOVE = (1.0, _SQUARE, _TRIANGLE, _CROSS)  # reach above the centre of mass
_BELOW = (1.0, _SQUARE, 0.5 * _TRIANGLE, _CROSS)


class Shape(NamedTuple):
    """What a picture shows, in the words of its caption."""

    color: str
    shape: str
    background: str
    size: str


ALL = tuple(Shape(*words) for words in product(COLORS, SHAPES, BACKGROUNDS, SIZES))
"""Every kind of picture in a fixed order: 8 x 4 x 4 x 2 = 256."""


def caption(shape: Shape, variant: int = 0) -> str:
    """The caption in phrasing ``variant`` (modulo the number of phrasings); 0 is canonical."""
    articles = {
        f"a_{name}": f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
        for name, word in (("color", shape.color), ("background", shape.background))
    }
    return TEMPLATES[variant % len(TEMPLATES)].format(**shape._asdict(), **articles)


def parse(text: str) -> Shape:
    """The inverse of ``caption`` for every phrasing, by the words of the four vocabularies.

    ValueError when the text does not name exactly one colour, shape, background and size.
    """
    words = set(re.findall(r"[a-z]+", text.lower()))
    found = []
    for attribute, vocabulary in zip(Shape._fields, _VOCABULARIES, strict=True):
        named = [word for word in vocabulary if word in words]
        if len(named) != 1:
            raise ValueError(
                f"the caption {text!r} names {' and '.join(named) or 'no'} {attribute}; shapes need"
                f' exactly one of {", ".join(vocabulary)}, as in "{caption(ALL[0])}".'
            )
        found.append(named[0])
    return Shape(*found)


_VOCABULARIES: tuple[tuple[str, ...], ...] = (
    tuple(COLORS),
    SHAPES,
    tuple(BACKGROUNDS),
    tuple(SIZES),
)


def _coverage(kind: Tensor, center: Tensor, radius: Tensor, size_px: int) -> Tensor:
    """How much of each pixel the shape covers, in [0, 1]: (B, size_px, size_px).

    kind (B,) indexes SHAPES; center (B, 2) is the centre of mass as (x, y) and radius (B,) its
    scale, fractions of the frame. A pixel's cover is its signed distance to the edge, clipped.
    """
    grid = (torch.arange(size_px, device=radius.device) + 0.5) / size_px
    x = (grid[None, None, :] - center[:, 0, None, None]) / radius[:, None, None]
    y = (grid[None, :, None] - center[:, 1, None, None]) / radius[:, None, None]
    wide, high = x.abs(), y.abs()
    distances = (
        torch.hypot(x, y) - 1.0,
        torch.maximum(wide, high) - _SQUARE,
        torch.maximum(wide * (0.5 * 3**0.5) - 0.5 * y, y) - 0.5 * _TRIANGLE,
        torch.minimum(
            torch.maximum(wide - _CROSS, high - _BAR), torch.maximum(wide - _BAR, high - _CROSS)
        ),
    )
    distance = sum(torch.where((kind == i)[:, None, None], d, 0.0) for i, d in enumerate(distances))
    assert isinstance(distance, Tensor)
    return (0.5 - distance * (radius * size_px)[:, None, None]).clamp(0.0, 1.0)


def draw(shapes: list[Shape], jitter: Tensor, size_px: int) -> Tensor:
    """Antialiased pictures, uint8 (B, size_px, size_px, 3), wholly inside the frame.

    jitter (B, 9) in (0, 1): shift in x and y, radius, three channels of the shape's and three of
    the background's colour; 0.5 everywhere is the centred picture of middle size, exact colours.
    """
    if size_px < 24:
        raise ValueError(f"size_px={size_px} is too small for shapes to be readable; 24 or more.")
    kind = torch.tensor([SHAPES.index(s.shape) for s in shapes])
    low = torch.tensor([SIZES[s.size][0] for s in shapes])
    high = torch.tensor([SIZES[s.size][1] for s in shapes])
    radius = low + (high - low) * jitter[:, 2]
    half = torch.tensor(_HALF_WIDTHS)[kind] * radius
    above, below = torch.tensor(_ABOVE)[kind] * radius, torch.tensor(_BELOW)[kind] * radius
    reach = torch.stack([half, (above + below) / 2], dim=1)  # (B, 2)
    room = (0.5 - _MARGIN - reach).clamp(0.0, _SHIFT)
    center = 0.5 + (2 * jitter[:, :2] - 1) * room
    center[:, 1] += (above - below) / 2  # from the middle of the box to the centre of mass
    tint = (2 * jitter[:, 3:] - 1).view(-1, 2, 3) * _COLOR_JITTER
    front = torch.tensor([COLORS[s.color] for s in shapes]) + tint[:, 0]
    back = torch.tensor([BACKGROUNDS[s.background] for s in shapes]) + tint[:, 1]
    cover = _coverage(kind, center, radius, size_px)[..., None]
    pixels = back[:, None, None] + cover * (front - back)[:, None, None]
    return pixels.round().clamp(0, 255).to(torch.uint8)


def draw_batch(seed: int, index: Tensor, size_px: int) -> tuple[Tensor, list[str], list[Shape]]:
    """Samples ``index`` (B,) int64 of the endless stream of ``seed``: pictures, captions, truth.

    Each sample is a pure function of (seed, its index, size_px); pictures as ``draw`` gives them.
    """
    kinds = random.integers(random.stream(seed, "shapes", "kind"), index, len(ALL))
    variants = random.integers(random.stream(seed, "shapes", "phrasing"), index, len(TEMPLATES))
    jitter = random.uniform(random.stream(seed, "shapes", "jitter"), index, (9,))
    shapes = [ALL[kind] for kind in kinds.tolist()]
    captions = [caption(s, v) for s, v in zip(shapes, variants.tolist(), strict=True)]
    return draw(shapes, jitter, size_px), captions, shapes


def draw_sample(seed: int, index: int, size_px: int) -> tuple[NDArray[np.uint8], str, Shape]:
    """One sample of ``draw_batch``: uint8 (size_px, size_px, 3), caption, truth."""
    images, captions, shapes = draw_batch(seed, torch.tensor([index]), size_px)
    return images[0].numpy(), captions[0], shapes[0]


def examine(images: Tensor) -> tuple[list[Shape], Tensor]:
    """What each picture shows, and how well: the shapes and a soft IoU (B,) in [0, 1].

    images (B, 3, H, H), uint8, or float in [-1, 1]. The IoU compares the foreground with the best
    ideal shape: above 0.85 for real pictures, low for pictures that show no shape at all.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"the judge needs square pictures (B, 3, H, H), not {tuple(images.shape)}")
    float_input = images.dtype.is_floating_point
    images = images.detach().to(torch.float32)
    pixels = (images + 1.0) * 127.5 if float_input else images
    pixels = pixels.nan_to_num().clamp(0.0, 255.0).flatten(2).transpose(1, 2)  # (B, H*H, 3)
    size_px = images.shape[-1]
    device = pixels.device
    ring = torch.ones(size_px, size_px, dtype=torch.bool, device=device)
    width = max(1, int(size_px * _MARGIN))
    ring[width:-width, width:-width] = False
    back = pixels[:, ring.flatten()].median(dim=1, keepdim=True).values  # (B, 1, 3)

    # The shape's colour: the median of the pixels farthest from the background, fewer than even
    # the smallest shape has inside its edge.
    distance = (pixels - back).norm(dim=2)
    count = max(1, round(0.035 * size_px**2))
    core = distance.topk(count, dim=1).indices[..., None].expand(-1, -1, 3)
    front = pixels.gather(1, core).median(dim=1, keepdim=True).values
    axis = front - back
    mix = ((pixels - back) * axis).sum(2) / axis.square().sum(2).clamp(min=1.0)
    # A ramp about one half keeps noise out and the area of straight edges unchanged.
    cover = ((mix - 0.25) * 2.0).clamp(0.0, 1.0).view(-1, size_px, size_px)

    area = cover.mean(dim=(1, 2)).clamp(min=1e-4)
    grid = (torch.arange(size_px, device=device) + 0.5) / size_px
    mass = area * size_px
    center = torch.stack(
        [(cover.mean(dim=1) * grid).sum(1) / mass, (cover.mean(dim=2) * grid).sum(1) / mass], dim=1
    )
    overlaps, radii = [], []
    for kind, unit_area in enumerate(_AREAS):
        radius = (area / unit_area).sqrt()
        ideal = _coverage(torch.full_like(radius, kind), center, radius, size_px)
        both = torch.minimum(ideal, cover).sum(dim=(1, 2))
        overlaps.append(both / torch.maximum(ideal, cover).sum(dim=(1, 2)).clamp(min=1e-6))
        radii.append(radius)
    overlap, kinds = torch.stack(overlaps, dim=1).max(dim=1)
    radius = torch.stack(radii, dim=1).gather(1, kinds[:, None])[:, 0]

    colors = _nearest(front[:, 0], COLORS)
    backgrounds = _nearest(back[:, 0], BACKGROUNDS)
    sizes = ["large" if large else "small" for large in (radius > _SIZE_CUT).tolist()]
    names = [SHAPES[kind] for kind in kinds.tolist()]
    return [Shape(*s) for s in zip(colors, names, backgrounds, sizes, strict=True)], overlap


def judge(images: Tensor) -> list[Shape]:
    """What each picture shows: (B, 3, H, H) uint8, or float in [-1, 1] -> B shapes."""
    return examine(images)[0]


def _nearest(colors: Tensor, palette: dict[str, tuple[int, int, int]]) -> list[str]:
    """The palette's name for each colour (B, 3) of range 0..255."""
    values = torch.tensor(list(palette.values()), dtype=colors.dtype, device=colors.device)
    names = list(palette)
    return [names[i] for i in torch.cdist(colors, values).argmin(dim=1).tolist()]
