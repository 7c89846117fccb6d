"""Validation on held-out data with the averaged weights, on the one counter."""

from collections.abc import Iterable
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from ldm.callbacks.metrics_log import log
from ldm.callbacks.patience import Patience

Sums = dict[str, Tensor]


class Validation:
    """Adds up what the task's ``validate`` finds in each block and logs what it concludes of it.

    ``blocks`` are this rank's numbered blocks of held-out data. Blocks are the same for any number
    of ranks and their sums are added by number in float64, so the same weights give the same
    numbers everywhere. The trained networks compute with their averages.
    """

    def __init__(self, blocks: Iterable[tuple[int, Any]], patience: Patience) -> None:
        self.blocks, self.patience = blocks, patience
        self.latest: dict[str, float] = {}

    def __call__(self, trainer: Trainer, module: Any) -> None:
        """Validate now and log ``val/<name>`` for every name."""
        found: dict[int, Sums] = {}
        module.eval()
        context = trainer.precision_plugin.forward_context()  # the precision of training
        with context, module.trained[module.product].averaged():
            for number, batch in self.blocks:
                moved = trainer.strategy.batch_to_device(batch, module.device)
                found[number] = module.validate(trainer.precision_plugin.convert_input(moved))
        module.train()
        names = next(iter(found.values()), {})
        mine = {name: torch.stack([sums[name] for sums in found.values()]).cpu() for name in names}
        totals = _added(self.patience.gather((list(found), mine)))
        means = module.conclude(totals)
        self.latest = {f"val/{name}": float(value) for name, value in sorted(means.items())}
        log(trainer, module.step, self.latest)


def _added(ranks: list[tuple[list[int], Sums]]) -> Sums:
    """Sums over all blocks in the order of their numbers, in float64.

    Of each rank the blocks' numbers (N,) and sums (N, ...); one without blocks names no sums. Of
    what ends in "_max" the largest is taken instead.
    """
    numbers = [number for found, _ in ranks for number in found]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    names = {name for _, sums in ranks for name in sums}
    found = {}
    for name in sorted(names):
        each = torch.cat([sums[name] for _, sums in ranks if sums])[order].double()
        found[name] = each.amax(0) if name.endswith("_max") else each.sum(0)
    return found
