"""The order of shards that are read one after the other: for remote or spinning disks."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldm.random import permutation, stream


class Streamed:
    """Every pass takes the shards in a keyed order, and each shard's samples in one of their own.

    That sequence is cut into ``lanes`` contiguous ranges. A lane fills the same slots of every
    global batch, so whoever reads a contiguous part of the batch reads few shards, one after the
    other, at any world size; a batch mixes samples of about as many shards as there are lanes. The
    samples that do not fill a last global batch are dropped, other ones in every pass.
    ValueError when there is less than one global batch, or when lanes do not divide it.
    """

    def __init__(
        self,
        seed: int,
        shard_counts: Sequence[int] | NDArray[np.int64],
        global_batch: int,
        lanes: int,
    ) -> None:
        self.seed, self.global_batch, self.lanes = seed, global_batch, lanes
        self.counts = np.asarray(shard_counts, dtype=np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        num_samples = int(self.counts.sum())
        self.steps = num_samples // global_batch  # of one pass
        if not self.steps:
            raise ValueError(
                f"{num_samples} samples do not fill one global batch of {global_batch}; lower "
                "global_batch, or read them with data.order=shuffled."
            )
        if lanes < 1 or global_batch % lanes:
            divisors = [d for d in range(1, global_batch + 1) if global_batch % d == 0]
            nearest = sorted(divisors, key=lambda d: abs(d - lanes))[:3]
            raise ValueError(
                f"{lanes} lanes do not divide a global batch of {global_batch}; set data.lanes to "
                f"a divisor of it, e.g. {', '.join(map(str, sorted(nearest)))}."
            )
        self._shuffled = (-1, self.counts, self.counts)  # the present pass

    def positions(self, index: Tensor) -> Tensor:
        """Positions in 0..n-1, shard after shard as they lie, of global sample indices (B,)."""
        passes = index // (self.steps * self.global_batch)
        found = torch.empty_like(index)
        for number in passes.unique().tolist():
            here = passes == number
            found[here] = self._in_pass(number, self._place(index[here]))
        return found

    def _place(self, index: Tensor) -> Tensor:
        """Where in its pass's sequence each index reads: its lane's range, that far into it."""
        step, slot = (index // self.global_batch) % self.steps, index % self.global_batch
        width = self.global_batch // self.lanes  # slots of a lane
        return slot // width * self.steps * width + step * width + slot % width

    def _in_pass(self, number: int, place: Tensor) -> Tensor:
        order, ends = self._shards(number)
        which = np.searchsorted(ends, place.numpy(), side="right")
        found = torch.empty_like(place)
        for nth in np.unique(which).tolist():
            here, shard = torch.from_numpy(which == nth), int(order[nth])
            count = int(self.counts[shard])
            key = stream(self.seed, "shard", number, shard)
            within = permutation(key, count, place[here] - (int(ends[nth]) - count))
            found[here] = int(self.starts[shard]) + within
        return found

    def _shards(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The shards in the order of a pass, and where in its sequence each of them ends."""
        if self._shuffled[0] != number:
            key = stream(self.seed, "shards", number)
            order = permutation(key, len(self.counts), torch.arange(len(self.counts))).numpy()
            self._shuffled = (number, order, np.cumsum(self.counts[order]))
        return self._shuffled[1:]
