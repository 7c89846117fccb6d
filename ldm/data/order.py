"""Which sample is read when: a pure function of the seed and the global sample index.

Global sample index g counts every sample a run has consumed: step s of a run with global batch G
reads g = s G .. s G + G - 1. Pass e over n samples is g in [e n, (e + 1) n), in the order of a
keyed permutation of its own, so nothing is seen twice before everything was seen once. Rank, world
size and micro-batch only decide who reads which slice of a step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler

from ldm.random import permutation, stream


def positions(seed: int, num_samples: int, index: Tensor) -> Tensor:
    """Dataset positions in 0..n-1 of global sample indices (B,) int64."""
    passes = index // num_samples
    found = torch.empty_like(index)
    for number in passes.unique().tolist():  # one pass, or two where a batch crosses the seam
        here = passes == number
        key = stream(seed, "order", number)
        found[here] = permutation(key, num_samples, index[here] % num_samples)
    return found


@dataclass(frozen=True)
class Share:
    """One rank's part of every global batch.

    A global batch is cut into ``accumulate`` micro-steps, each into one micro-batch per rank.
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
        slot = micro_step * self.world_size + self.rank
        start = step * self.global_batch + slot * self.micro_batch
        return torch.arange(start, start + self.micro_batch)


class StepSampler(Sampler[tuple[int, Tensor]]):
    """The (step, global sample indices) of a rank's micro-batches from one step to another.

    Resuming at a step is starting the sampler there: it has no other state.
    """

    def __init__(self, share: Share, *, start_step: int, stop_step: int) -> None:
        self.share, self.start_step, self.stop_step = share, start_step, stop_step

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for step in range(self.start_step, self.stop_step):
            for micro_step in range(self.share.accumulate):
                yield step, self.share.indices(step, micro_step)

    def __len__(self) -> int:
        return max(0, self.stop_step - self.start_step) * self.share.accumulate
