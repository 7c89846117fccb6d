"""Sums, means, maxima and turns over the processes of a distributed run."""

from collections.abc import Iterator

import torch
from torch import Tensor


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes; itself when there is one."""
    if not _distributed():
        return value
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes; itself when there is one."""
    if not _distributed():
        return value
    return sum_over_ranks(value) / num_ranks()


def max_over_ranks(value: Tensor) -> Tensor:
    """The elementwise maximum of a tensor over all processes; itself when there is one."""
    if not _distributed():
        return value
    value = value.clone()
    torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
    return value


def num_ranks() -> int:
    """How many processes there are."""
    return torch.distributed.get_world_size() if _distributed() else 1


def turns(count: int) -> Iterator[int]:
    """Which of ``count`` pieces of work this process does: processes take them in turn."""
    rank = torch.distributed.get_rank() if _distributed() else 0
    yield from range(rank, count, num_ranks())


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
