"""The order of held-out data: every sample exactly once."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldm.data.order.shuffled import Shuffled


def blocks(counts: Sequence[int], sizes: Sequence[int]) -> Iterator[Tensor]:
    """Indices (B,) of every sample once, in blocks of one bucket each.

    ``counts`` are the samples and ``sizes`` the blocks' sizes by bucket. All blocks are full but a
    bucket's last: nothing is padded or dropped.
    """
    bucket, _ = _numbered(counts)
    for number, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        if count:
            yield from torch.from_numpy(np.flatnonzero(bucket == number)).split(size)


class Once:
    """The order of ``blocks``: which bucket an index belongs to, and which row of it that is.

    Every bucket's samples are spread evenly over all indices, since what is drawn evenly over the
    indices, such as timesteps, is to be so in every bucket. Rows are shuffled, so that a block is a
    fair sample of its bucket, which matters where a loss compares the samples of a block.
    """

    def __init__(self, seed: int, counts: Sequence[int]) -> None:
        self.seed, self.counts = seed, list(counts)
        self._bucket, self._row = _numbered(counts)

    def place(self, step: int, index: Tensor) -> tuple[int, Tensor]:
        """The bucket of a block's indices (B,), and rows inside it (B,); the same at all steps."""
        bucket = int(self._bucket[int(index[0])])
        rows = torch.from_numpy(self._row[index.numpy()])
        return bucket, Shuffled(self.seed, self.counts[bucket]).positions(rows)


def _numbered(counts: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bucket (N,) and row (N,) of each index: row k of n is put at (k + 1/2) / n of the way."""
    bucket = np.repeat(np.arange(len(counts)), counts)
    row = np.concatenate([np.zeros(0, np.int64), *map(np.arange, counts)])
    order = np.argsort((row + 0.5) / np.repeat(counts, counts), kind="stable")
    return bucket[order], row[order]
