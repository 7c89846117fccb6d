"""Arithmetic that measures: float32 in full, whatever training allows itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact() -> Iterator[None]:
    """Without gradients, TF32 and a free choice of convolution algorithms; also a decorator.

    torch lets convolutions on newer GPUs keep 10 bits of a number, so that a score would depend
    on the machine. Settings are put back afterwards.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.no_grad(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
