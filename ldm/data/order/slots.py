"""What a loader is asked for: the micro-batches of one rank, step after step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.utils.data import Sampler

from ldm.data.order.share import Share


@dataclass(frozen=True)
class Slot:
    """A micro-batch to be read."""

    step: int
    index: Tensor  # (B,) global sample indices
    micro_steps: int = 1  # how many micro-batches a rank reads in this step


class Buckets(Protocol):
    """Which bucket each step reads; the same on all ranks."""

    def bucket_of(self, step: int) -> int:
        """The bucket whose samples the step reads."""
        ...

    def batches_before(self, step: int) -> list[int]:
        """How many of the steps 0..step-1 read each bucket."""
        ...


class OneBucket:
    """The buckets of samples that all have one shape."""

    def bucket_of(self, step: int) -> int:
        """Always the first."""
        return 0

    def batches_before(self, step: int) -> list[int]:
        """All of them."""
        return [step]


class StepSampler(Sampler[Slot]):
    """The slots of a rank from one step to another; ``shares`` is its part of a batch by bucket.

    Resuming at a step is starting the sampler there: it has no other state.
    """

    def __init__(
        self, shares: Sequence[Share], buckets: Buckets, *, start_step: int, stop_step: int
    ) -> None:
        self.shares, self.buckets = shares, buckets
        self.start_step, self.stop_step = start_step, max(start_step, stop_step)

    def __iter__(self) -> Iterator[Slot]:
        for step in range(self.start_step, self.stop_step):
            share = self.shares[self.buckets.bucket_of(step)]
            for micro_step in range(share.accumulate):
                yield Slot(step, share.indices(step, micro_step), share.accumulate)

    def __len__(self) -> int:
        before = self.buckets.batches_before(self.start_step)
        after = self.buckets.batches_before(self.stop_step)
        return sum(
            (last - first) * share.accumulate
            for first, last, share in zip(before, after, self.shares, strict=True)
        )
