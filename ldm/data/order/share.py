"""Who reads which slice of a global batch, and in how many passes."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """One rank's part of every global batch, which is contiguous.

    It is cut into ``accumulate`` micro-batches, read one after the other.
    ValueError when the global batch is no multiple of micro_batch x world_size.
    """

    global_batch: int
    micro_batch: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        together = self.micro_batch * self.world_size
        if self.global_batch % together or self.global_batch < together:
            raise ValueError(
                f"global_batch {self.global_batch} is no multiple of micro_batch "
                f"{self.micro_batch} x {self.world_size} process(es) = {together}. Choose "
                f"micro_batch so that it divides {self.global_batch // self.world_size or 1}."
            )

    @property
    def accumulate(self) -> int:
        """Micro-batches per optimizer step on each rank."""
        return self.global_batch // (self.micro_batch * self.world_size)

    def indices(self, step: int, micro_step: int) -> Tensor:
        """Global sample indices (micro_batch,) int64 of this rank."""
        slot = self.rank * self.accumulate + micro_step
        start = step * self.global_batch + slot * self.micro_batch
        return torch.arange(start, start + self.micro_batch)

    def within(self, max_pixels: int | None, size_px: tuple[int, int]) -> Self:
        """The share with the largest micro-batch up to its own that keeps to a budget of pixels.

        ``size_px`` is height and width of its pictures; None is no budget. ValueError when the
        budget is below one picture.
        """
        if max_pixels is None:
            return self
        height, width = size_px
        fitting = min(max_pixels // (height * width), self.micro_batch)
        if not fitting:
            raise ValueError(
                f"max_micro_pixels={max_pixels:,} is less than one picture of {width}x{height} px; "
                f"set it to at least {height * width} or to null."
            )
        whole = self.global_batch // self.world_size
        return replace(self, micro_batch=max(d for d in range(1, fitting + 1) if whole % d == 0))
