"""Ranks that have worked for different times wait for each other as long as it takes."""

from datetime import timedelta
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

_LONG = timedelta(days=7)


class Patience(Callback):
    """Where ranks meet after work of different length: sampling, validation.

    They meet in a group of their own over the CPU, whose timeout is days. In the default group
    ranks arrive together once training runs, so there one that does not come within
    ``collective_timeout_seconds`` has failed.
    """

    def __init__(self, *, collective_timeout_seconds: float) -> None:
        self._timeout = timedelta(seconds=collective_timeout_seconds)
        self._group: Any = None

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        if trainer.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo", timeout=_LONG)
            # Only now: how long processes take to start is nobody's failure.
            torch.distributed.distributed_c10d._set_pg_timeout(self._timeout)

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, on every rank; tensors in them are to be on the CPU."""
        if self._group is None:
            return [value]
        found: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(found, value, group=self._group)
        return found
