"""Sums, means and turns over the processes of a distributed run."""

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
    return sum_over_ranks(value) / torch.distributed.get_world_size()


def turns(count: int) -> Iterator[int]:
    """Which of ``count`` pieces of work this process does: processes take them in turn.

    Where the pieces do not suffice the last is done again, since a network that is sharded over
    processes computes only when all of them do.
    """
    rank, ranks = 0, 1
    if _distributed():
        rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    for first in range(0, count, ranks):
        yield min(first + rank, count - 1)


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
