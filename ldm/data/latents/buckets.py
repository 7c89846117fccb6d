"""Aspect-ratio buckets: a table of picture shapes of about one area, and who belongs to which."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Shapes = NDArray[np.int64]  # (K, 2) heights and widths in pixels


def shape_table(size_px: int, *, step_px: int, max_aspect_ratio: float) -> Shapes:
    """Heights and widths of all buckets, from the widest to the highest.

    Sides are multiples of ``step_px``, no area is above size_px^2, no side is more than
    ``max_aspect_ratio`` times the other; for each width the largest such height and the reverse.
    The square is always there. ValueError where the square is no multiple of the step.
    """
    if size_px % step_px:
        raise ValueError(
            f"size={size_px} is no multiple of bucket_step={step_px}; choose "
            f"size={multiples_around(size_px, step_px)}, or another bucket_step."
        )
    found = set()
    for side in range(step_px, size_px + 1, step_px):
        other = size_px**2 // side // step_px * step_px
        if other <= max_aspect_ratio * side:
            found |= {(side, other), (other, side)}
    return np.array(sorted(found, key=lambda shape: shape[0] / shape[1]), dtype=np.int64)


class Assignment(NamedTuple):
    """Which pictures lie in which bucket; every bucket has some."""

    shapes: Shapes  # (K, 2) of the buckets in use, from the widest to the highest
    bucket: NDArray[np.int64]  # (N,) a row of ``shapes`` for each picture
    dissolved: list[tuple[int, int, int]]  # height, width, pictures of those with too few


def assign(sizes: NDArray[np.integer], shapes: Shapes, *, min_bucket: int) -> Assignment:
    """Each picture (N, 2: height, width) to the bucket of nearest aspect ratio, by its logarithm.

    A bucket with fewer than ``min_bucket`` pictures is dissolved, the smallest first: its pictures
    go to the nearest of those that are left. The last one stays whatever it holds.
    """
    ratio = np.log(sizes[:, 0] / sizes[:, 1])
    bucket = _nearest(ratio, shapes)
    counts = np.bincount(bucket, minlength=len(shapes))
    dissolved = []
    left = counts > 0
    while (counts[left] < min_bucket).any() and left.sum() > 1:
        smallest = int(np.where(left, counts, np.iinfo(np.int64).max).argmin())
        dissolved.append((*shapes[smallest].tolist(), int(counts[smallest])))
        left[smallest] = False
        rows = np.flatnonzero(bucket == smallest)
        bucket[rows] = np.flatnonzero(left)[_nearest(ratio[rows], shapes[left])]
        counts = np.bincount(bucket, minlength=len(shapes))
    return Assignment(shapes[left], (np.cumsum(left) - 1)[bucket], dissolved)


def _nearest(ratio: NDArray[np.float64], shapes: Shapes) -> NDArray[np.int64]:
    own = np.log(shapes[:, 0] / shapes[:, 1])
    return np.searchsorted((own[1:] + own[:-1]) / 2.0, ratio)


def share_cut_off(sizes: NDArray[np.integer], shapes: NDArray[np.integer]) -> NDArray[np.float64]:
    """The share of its pixels that a picture loses when scaled to cover a shape, elementwise."""
    quotient = (sizes[..., 0] * shapes[..., 1]) / (sizes[..., 1] * shapes[..., 0])
    return 1.0 - np.minimum(quotient, 1.0 / quotient)


def scaled_to_cover(sizes: NDArray[np.integer], shapes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Height and width of pictures scaled so that they just cover a shape, elementwise (..., 2)."""
    scale = (shapes / sizes).max(axis=-1, keepdims=True)
    return np.maximum(np.rint(sizes * scale), shapes).astype(np.int64)


def multiples_around(value: int, step: int) -> str:
    """The multiples of ``step`` on both sides of a value, in words."""
    below = value // step * step
    return f"{below} or {below + step}" if below else str(step)
