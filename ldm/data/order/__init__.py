"""Which sample is read when: a pure function of the seed and the global sample index.

Global sample index g counts every sample a run has consumed: step s of a run with global batch G
reads g = s G .. s G + G - 1. An order says which samples these are; rank, world size and
micro-batch only decide who reads which slice of a step. All orders are small, picklable, and ask
nothing of what was read before, so resuming is starting at a step.
"""

from ldm.data.order.in_buckets import InBuckets, repeats
from ldm.data.order.once import Once, blocks
from ldm.data.order.share import Share
from ldm.data.order.shuffled import Shuffled
from ldm.data.order.slots import Buckets, OneBucket, Slot, StepSampler
from ldm.data.order.streamed import Streamed

__all__ = [
    "Buckets",
    "InBuckets",
    "Once",
    "OneBucket",
    "Share",
    "Shuffled",
    "Slot",
    "StepSampler",
    "Streamed",
    "blocks",
    "repeats",
]
