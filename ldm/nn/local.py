"""This process's part of tensors that may be shared out among several."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


@torch.no_grad()
def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The parts that lie here, as plain tensors without gradient in the same memory."""
    return [t.to_local() if isinstance(t, DTensor) else t.detach() for t in tensors]
