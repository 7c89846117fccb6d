"""Validation on held-out data with the averaged weights, on the one counter."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from ldm.callbacks.metrics_log import log


class Validation:
    """Runs the task's ``validate`` when called and logs its means.

    ``batches`` are this rank's part of the held-out data; sums and counts are added over ranks, so
    ranks may hold different amounts. Of what ends in "_max" the largest is taken. The trained
    networks compute with their averages. ``judged`` makes of the means what is logged.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        judged: Callable[[dict[str, float]], dict[str, float]] = dict,
    ) -> None:
        self.batches, self.judged = batches, judged
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
        largest = {name: value for name, value in found.items() if name.endswith("_max")}
        sums = _combined({k: v for k, v in found.items() if k not in largest}, trainer, "sum")
        means = {
            name: value / sums[f"{name}_count"]
            for name, value in sums.items()
            if sums.get(f"{name}_count")
        }
        for name, value in _combined(largest, trainer, "max").items():
            means[name.removesuffix("_max")] = value
        self.latest = {f"val/{name}": value for name, value in self.judged(means).items()}
        log(trainer, module.step, self.latest)


def _combined(found: dict[str, Tensor], trainer: Trainer, how: str) -> dict[str, float]:
    """Scalars of all ranks, summed or their largest, as numbers on the host."""
    if not found:
        return {}
    names = sorted(found)
    values = torch.stack([found[name].to(torch.float64) for name in names])
    if trainer.world_size > 1:
        operations = {"sum": torch.distributed.ReduceOp.SUM, "max": torch.distributed.ReduceOp.MAX}
        torch.distributed.all_reduce(values, op=operations[how])
    return dict(zip(names, values.tolist(), strict=True))
