"""This process's part of tensors that may be shared out among several."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


@torch.no_grad()
def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The parts that lie here, as plain tensors in the same memory; whole tensors as they are."""
    return [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
