"""The order of data that is read at random: pass after pass, each in a keyed order of its own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm.random import permutation, stream


@dataclass(frozen=True)
class Shuffled:
    """Pass e over n samples is g in [e n, (e + 1) n), permuted by a key of its own.

    So nothing is seen twice before everything was seen once, and batches know no end of a pass.
    """

    seed: int
    num_samples: int

    def positions(self, index: Tensor) -> Tensor:
        """Positions in 0..n-1 of global sample indices (B,) int64."""
        passes = index // self.num_samples
        found = torch.empty_like(index)
        for number in passes.unique().tolist():  # one pass, or two where a batch crosses the seam
            here = passes == number
            key = stream(self.seed, "order", number)
            found[here] = permutation(key, self.num_samples, index[here] % self.num_samples)
        return found
