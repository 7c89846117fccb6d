"""The order of held-out data: every sample exactly once."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ldm.data.order.shuffled import Shuffled


def blocks(counts: Sequence[int], sizes: Sequence[int]) -> Iterator[Tensor]:
    """Indices (B,) of every sample once, in blocks of one bucket each.

    ``counts`` are the samples and ``sizes`` the blocks' sizes by bucket. All blocks are full but a
    bucket's last: nothing is padded or dropped.
    """
    end = 0
    for count, size in zip(counts, sizes, strict=True):
        first, end = end, end + count
        for start in range(first, end, size):
            yield torch.arange(start, min(start + size, end))


class Once:
    """The order of ``blocks``: indices 0..n_0-1 are bucket 0, in keyed order, and so on.

    Shuffled, so that a block is a fair sample of its bucket, which matters where a loss compares
    the samples of a block with each other.
    """

    def __init__(self, seed: int, counts: Sequence[int]) -> None:
        self.seed, self.counts = seed, list(counts)
        self._ends = np.cumsum(self.counts)

    def place(self, step: int, index: Tensor) -> tuple[int, Tensor]:
        """The bucket of a block's indices (B,), and rows inside it (B,); the same at all steps."""
        bucket = int(np.searchsorted(self._ends, int(index[0]), side="right"))
        count = self.counts[bucket]
        rows = index - (int(self._ends[bucket]) - count)
        return bucket, Shuffled(self.seed, count).positions(rows)
