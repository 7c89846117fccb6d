"""What a latent cache will hold, decided before anything is encoded: buckets and crops."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldm.data.latents.buckets import Shapes, assign, scaled_to_cover, shape_table, share_cut_off
from ldm.data.shards.reader import ImageShards

_NAMED = 3  # pictures that a refusal names
_CHUNK = 1 << 20  # pictures that are looked at together


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """How pictures get their shapes: squares of ``size_px``, or buckets of that area.

    ``max_crop`` is the largest share of a picture's pixels that may be cut off, ``enlarge`` whether
    pictures smaller than their shape are enlarged.
    """

    size_px: int
    buckets: bool
    step_px: int
    max_aspect_ratio: float
    min_bucket: int
    max_crop: float
    enlarge: bool

    def settings(self) -> dict[str, Any]:
        """What decides the shapes; limits only decide whether there is a cache at all."""
        if not self.buckets:
            return {"size_px": self.size_px, "buckets": False}
        return {
            "size_px": self.size_px,
            "buckets": True,
            "bucket_step": self.step_px,
            "max_aspect_ratio": self.max_aspect_ratio,
            "min_bucket": self.min_bucket,
        }

    def table(self) -> Shapes:
        """All shapes that pictures may get (K, 2)."""
        if not self.buckets:
            return np.array([[self.size_px, self.size_px]])
        return shape_table(
            self.size_px, step_px=self.step_px, max_aspect_ratio=self.max_aspect_ratio
        )


class Bucket(NamedTuple):
    """Pictures that get one shape."""

    size_px: tuple[int, int]  # height, width
    samples: NDArray[np.int64]  # their positions in the shards, ascending
    largest_cut: float  # the largest share of its pixels that one of them loses


class Plan(NamedTuple):
    """Every picture of the shards in one bucket."""

    buckets: list[Bucket]
    dissolved: list[tuple[int, int, int]]  # height, width, pictures of buckets with too few
    num_exact: int  # pictures that fill their shape exactly: every crop of one is the same

    def report(self) -> Iterator[str]:
        """Lines for people: each bucket with its pictures, and what was dissolved."""
        total = sum(len(bucket.samples) for bucket in self.buckets)
        for bucket in self.buckets:
            count, (height, width) = len(bucket.samples), bucket.size_px
            cut = f", at most {bucket.largest_cut:.0%} of one cut off" if bucket.largest_cut else ""
            yield f"{width}x{height} px: {count:,} pictures ({count / total:.1%}){cut}"
        if self.dissolved:
            count = sum(number for *_, number in self.dissolved)
            yield (
                f"{len(self.dissolved)} more shapes had fewer than min_bucket pictures; their "
                f"{count:,} went to the next nearest"
            )


def plan(shards: ImageShards, shaping: Shaping) -> Plan:
    """Who gets which shape; ValueError with counts and keys where the limits forbid it."""
    sizes = shards.sizes()
    found = assign(sizes, shaping.table(), min_bucket=shaping.min_bucket)
    cut = np.empty(len(sizes))
    small = np.empty(len(sizes), dtype=bool)
    num_exact = 0
    for start in range(0, len(sizes), _CHUNK):
        here = slice(start, start + _CHUNK)
        shapes = found.shapes[found.bucket[here]]
        cut[here] = share_cut_off(sizes[here], shapes)
        small[here] = (sizes[here] < shapes).any(axis=1)
        num_exact += int((scaled_to_cover(sizes[here], shapes) == shapes).all(axis=1).sum())
    if not shaping.enlarge and small.any():
        raise ValueError(
            f"{_count(small)} smaller than the shape they would get at size={shaping.size_px}: "
            f"{_named(shards, sizes, small)}. Type upscale=true to enlarge them, choose a smaller "
            f"size=, or prepare the shards with larger pictures (data.size_px={shaping.size_px} or "
            f"null; data.min_size_px={shaping.size_px} leaves small originals out)."
        )
    # A rounding error is no cut.
    if (over := cut > shaping.max_crop + 1e-9).any():
        remedy = "buckets=true keeps aspect ratios"
        if shaping.buckets:
            remedy = "a smaller bucket_step= or min_bucket=, a larger max_aspect_ratio="
        raise ValueError(
            f"{_count(over)} cut by more than max_crop={shaping.max_crop:g} of their pixels: "
            f"{_named(shards, sizes, over)}. Type max_crop={np.ceil(cut.max() * 100) / 100:g} to "
            f"allow that; {remedy}; or prepare the shards with data.max_aspect_ratio= to leave "
            "them out."
        )
    buckets = []
    for number, shape in enumerate(found.shapes.tolist()):
        samples = np.flatnonzero(found.bucket == number)
        buckets.append(Bucket((shape[0], shape[1]), samples, float(cut[samples].max().round(4))))
    return Plan(buckets, found.dissolved, num_exact)


def _count(chosen: NDArray[np.bool_]) -> str:
    return f"{chosen.sum():,} of {len(chosen):,} pictures are"


def _named(shards: ImageShards, sizes: NDArray[np.int32], chosen: NDArray[np.bool_]) -> str:
    rows = np.flatnonzero(chosen)[:_NAMED].tolist()
    return ", ".join(f"{shards.key(i)!r} ({sizes[i, 1]}x{sizes[i, 0]})" for i in rows)
