"""The most memory that training held."""

import resource
import sys

import torch

from ldm.nn.ranks import max_over_ranks

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # getrusage counts kilobytes on Linux


class PeakMemory:
    """Gigabytes (1e9 bytes) of the process that held most.

    On a GPU what torch allocated there since it was last asked, the allocator's cache apart; on
    the CPU what the process held since its start, without loader processes. No device is waited
    for.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def take(self) -> float:
        """The peak; called by all ranks together."""
        if self.device.type == "cuda":
            held = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES
        return float(max_over_ranks(torch.tensor(held / 1e9, device=self.device)))
