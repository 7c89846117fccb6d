"""The order of data that is read at random: pass after pass, each in a keyed order of its own."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ldm.random import permutation, stream

_AHEAD = 16384  # indices: many at once cost little more than a few


@dataclass
class Shuffled:
    """Pass e over n samples is g in [e n, (e + 1) n), permuted by a key of its own.

    So nothing is seen twice before everything was seen once, and batches know no end of a pass.
    """

    seed: int
    num_samples: int
    # Positions of the indices from the first of these on, for a reader that goes on from there.
    _ahead: tuple[int, Tensor] = field(
        default=(0, torch.empty(0, dtype=torch.int64)), init=False, repr=False, compare=False
    )

    def positions(self, index: Tensor) -> Tensor:
        """Positions in 0..n-1 of global sample indices (B,) int64."""
        low, high = int(index.min()), int(index.max())
        length = min(_AHEAD, self.num_samples)
        if high - low >= length:
            return self._positions(index)
        first, ahead = self._ahead
        if not first <= low <= high < first + len(ahead):
            first, ahead = low, self._positions(torch.arange(low, low + length))
            self._ahead = (first, ahead)
        return ahead[index - first]

    def _positions(self, index: Tensor) -> Tensor:
        passes = index // self.num_samples
        found = torch.empty_like(index)
        for number in passes.unique().tolist():  # one pass, or two where a batch crosses the seam
            here = passes == number
            key = stream(self.seed, "order", number)
            found[here] = permutation(key, self.num_samples, index[here] % self.num_samples)
        return found
