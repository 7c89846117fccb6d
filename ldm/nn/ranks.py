"""Sums and means over the processes of a distributed run."""

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


def num_ranks() -> int:
    """How many processes there are."""
    return torch.distributed.get_world_size() if _distributed() else 1


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
