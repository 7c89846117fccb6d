"""The order of samples of several shapes: each step takes one bucket, in proportion to its size."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldm.data.order.shuffled import Shuffled
from ldm.random import permutation, stream

_BATCHES_PER_UNIT = 1024


class InBuckets:
    """Each step reads the next ``global_batch`` samples of one bucket's endless keyed stream.

    A bucket's remainder carries into its next pass, so no sample is lost and no batch is short.
    Time runs in units of about a thousand batches: after ``tau`` units bucket b of n_b samples has
    given floor(tau n_b / (G U)) batches, with U units per pass over all samples, and the batches
    within a unit come in a keyed order. So after any number of steps a bucket's share of them is
    n_b / N but for some of a unit's. One bucket reads exactly as ``Shuffled`` does.
    ValueError when there is no sample.
    """

    def __init__(self, seed: int, counts: Sequence[int], global_batch: int) -> None:
        self.seed, self.counts, self.global_batch = seed, list(counts), global_batch
        self.num_samples = sum(self.counts)
        if self.num_samples < 1:
            raise ValueError(f"no sample in any of {len(self.counts)} buckets.")
        self.units = max(1, self.num_samples // (_BATCHES_PER_UNIT * global_batch))  # per pass
        self.streams = [
            Shuffled(stream(seed, "bucket", bucket) if bucket else seed, count)
            for bucket, count in enumerate(self.counts)
        ]
        self._present = (0, 0, np.zeros(0, dtype=np.int64))  # the unit read last

    def bucket_of(self, step: int) -> int:
        """The bucket whose samples the step reads."""
        _, first, buckets = self._unit(step)
        return int(buckets[step - first])

    def batches_before(self, step: int) -> list[int]:
        """How many of the steps 0..step-1 read each bucket."""
        unit, first, buckets = self._unit(step)
        inside = np.bincount(buckets[: step - first], minlength=len(self.counts))
        return [a + int(b) for a, b in zip(self._batches(unit), inside, strict=True)]

    def positions(self, step: int, index: Tensor) -> Tensor:
        """Rows in 0..n_b-1 of the step's bucket for global sample indices (B,) of that step."""
        bucket = self.bucket_of(step)
        nth = self.batches_before(step)[bucket]
        return self.streams[bucket].positions(index + (nth - step) * self.global_batch)

    def place(self, step: int, index: Tensor) -> tuple[int, Tensor]:
        """The step's bucket, and rows inside it (B,)."""
        if len(self.counts) == 1:  # which its definition comes to, at once
            return 0, self.streams[0].positions(index)
        return self.bucket_of(step), self.positions(step, index)

    def _batches(self, unit: int) -> list[int]:
        """Batches that each bucket has given before a unit."""
        return [unit * count // (self.global_batch * self.units) for count in self.counts]

    def _unit(self, step: int) -> tuple[int, int, NDArray[np.int64]]:
        """The unit that holds a step, the first step of that unit, and the buckets of its steps."""
        _, first, buckets = self._present
        if not first <= step < first + len(buckets):
            # The last unit that begins at or before the step: low does so, high does not.
            low = step * self.global_batch * self.units // self.num_samples
            high = low + (len(self.counts) + 1) * self.global_batch * self.units + 1
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self._start(middle) <= step else (low, middle)
            self._present = (low, self._start(low), self._buckets(low))
        return self._present

    def _start(self, unit: int) -> int:
        return sum(self._batches(unit))

    def _buckets(self, unit: int) -> NDArray[np.int64]:
        """The bucket of every step of a unit, in keyed order."""
        before, after = self._batches(unit), self._batches(unit + 1)
        sizes = np.array([b - a for a, b in zip(before, after, strict=True)])
        buckets = np.repeat(np.arange(len(self.counts)), sizes)
        key = stream(self.seed, "buckets", unit)
        return buckets[permutation(key, len(buckets), torch.arange(len(buckets))).numpy()]


def repeats(counts: Sequence[int], global_batch: int) -> list[tuple[int, int]]:
    """Buckets smaller than a global batch, each with how often one batch may show a sample."""
    return [
        (bucket, -(-global_batch // count))
        for bucket, count in enumerate(counts)
        if 0 < count < global_batch
    ]
