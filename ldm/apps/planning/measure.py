"""Real training steps on made-up data: how fast this machine is, and what they take of memory."""

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader, Dataset

from ldm.apps.beginning import in_precision, quiet
from ldm.apps.build import device_of
from ldm.apps.planning.companions import Companions
from ldm.apps.planning.made_up import made_up
from ldm.apps.planning.measured import Measured
from ldm.apps.trainer import make_trainer
from ldm.data.batches import Batch

WARM_UP_STEPS = 5


def measure(config: DictConfig, with_: Companions, images: int, steps: int) -> Measured:
    """Train ``steps`` steps of one pass of ``images`` on one device, after some to warm up.

    Networks, task, optimizer, average and precision are those of the configuration; data and
    frozen weights are random. The autoencoder is measured with its discriminator at work.
    """
    quiet()
    alone = OmegaConf.merge(config, {"devices": 1, "num_nodes": 1, "strategy": "auto"})
    assert isinstance(alone, DictConfig)
    torch.manual_seed(config.seed)
    task, batch = made_up(alone, with_, images)
    in_precision(task, alone)
    on_gpu = device_of(config.accelerator).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    clock = _Clock()
    first = task.step
    data = _Data(lambda number: batch(first + number), WARM_UP_STEPS + steps)
    make_trainer(alone, [clock], []).fit(task, DataLoader(data, batch_size=None, shuffle=False))
    return Measured(
        torch.cuda.get_device_name() if on_gpu else "CPU",
        images,
        steps,
        clock.seconds / steps,
        float(torch.cuda.max_memory_allocated()) if on_gpu else None,
    )


class _Data(Dataset[Batch]):
    """Batches made when they are asked for."""

    def __init__(self, make: Callable[[int], Batch], length: int) -> None:
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Batch:
        return self.make(number)


class _Clock(pl.Callback):
    """The time from the end of the warm-up to the end of training."""

    seconds = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if index + 1 == WARM_UP_STEPS:
            _wait(module)
            self._begun = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        _wait(module)
        self.seconds = time.perf_counter() - self._begun


def _wait(module: Any) -> None:
    if module.device.type == "cuda":
        torch.cuda.synchronize()
