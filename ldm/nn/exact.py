"""Arithmetic in the tensors' own precision, whatever autocast is on around it."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Within the context nothing is cast on a device; the meta device has no autocast to leave."""
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
