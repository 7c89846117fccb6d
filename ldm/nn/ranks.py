"""Sums and means over the processes of a distributed run."""

import torch
from torch import Tensor


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes; itself when there is one."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return value
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value / torch.distributed.get_world_size()
