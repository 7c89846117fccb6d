"""Validation on held-out data with the averaged weights, on the one counter."""

from collections.abc import Iterable
from typing import Any

import torch
from pytorch_lightning import Trainer

from ldm.callbacks.metrics_log import log


class Validation:
    """Runs the task's ``validate`` when called and logs its means.

    ``batches`` are this rank's part of the held-out data; sums and counts are added over ranks, so
    ranks may hold different amounts. The trained networks compute with their averages.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.latest: dict[str, float] = {}

    def __call__(self, trainer: Trainer, module: Any) -> None:
        """Validate now and log ``val/<name>`` for every name that has samples."""
        module.eval()
        moved = (
            trainer.precision_plugin.convert_input(
                trainer.strategy.batch_to_device(batch, module.device)
            )
            for batch in self.batches
        )
        context = trainer.precision_plugin.forward_context()  # the precision of training
        with context, module.trained[module.product].averaged():
            found = module.validate(moved)
        module.train()
        names = sorted(found)
        totals = torch.stack([found[name].to(torch.float64) for name in names])
        if trainer.world_size > 1:
            torch.distributed.all_reduce(totals)
        sums = dict(zip(names, totals.tolist(), strict=True))
        self.latest = {
            f"val/{name}": value / sums[f"{name}_count"]
            for name, value in sums.items()
            if sums.get(f"{name}_count")
        }
        log(trainer, module.step, self.latest)
