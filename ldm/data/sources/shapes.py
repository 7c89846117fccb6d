"""The source of drawn shapes: as many captioned pictures as wanted, from nothing."""

from collections.abc import Iterator
from typing import Any

import torch

from ldm.data.source import HELD_OUT, TRAIN, Bad, Part, Record
from ldm.ranges import Count, Natural
from ldm.worlds.shapes import draw_batch

_HELD_OUT_OFFSET = 1 << 40  # held-out samples do not depend on how many are trained on
_BATCH = 256
_PART = 4096  # of them, as one part: large enough to be worth another process


class ShapesSource:
    """Pictures of ``ldm.worlds.shapes``; meta holds color, shape, background, size."""

    def __init__(
        self, *, num_train: Count, num_held_out: Count, size_px: Count, seed: Natural
    ) -> None:
        if num_train < 1 or num_held_out < 1:
            raise ValueError(
                f"data.num_train={num_train} and data.num_held_out={num_held_out}: each must be at "
                "least 1, e.g. data.num_train=8192 data.num_held_out=512."
            )
        self._splits = {TRAIN: num_train, HELD_OUT: num_held_out}
        self.size_px = size_px
        self.seed = seed

    def settings(self) -> dict[str, Any]:
        counts = {f"num_{split}": count for split, count in self._splits.items()}
        return {"source": "shapes", "size_px": self.size_px, "seed": self.seed, **counts}

    def parts(self) -> list[Part]:
        return [
            Part((split, start), min(_PART, count - start))
            for split, count in self._splits.items()
            for start in range(0, count, _PART)
        ]

    def read(self, part: Part) -> Iterator[Record | Bad]:
        split, first = part.where
        assert part.count is not None
        size = {"original_width": self.size_px, "original_height": self.size_px}
        name, offset = ("held_out_", _HELD_OUT_OFFSET) if split == HELD_OUT else ("", 0)
        for start in range(first, first + part.count, _BATCH):
            numbers = range(start, min(start + _BATCH, first + part.count))
            images, captions, shapes = draw_batch(
                self.seed, torch.tensor(numbers) + offset, self.size_px
            )
            rows = zip(numbers, images.numpy(), captions, shapes, strict=True)
            for number, image, caption, shape in rows:
                meta = {**size, **shape._asdict()}
                yield Record(f"{name}{number:08d}", image, (caption,), meta, split)
