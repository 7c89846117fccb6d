"""Logged numbers: means over steps, micro-batches and ranks, on the one counter."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from ldm.nn.ranks import mean_over_ranks


def log(trainer: Trainer, step: int, metrics: dict[str, float]) -> None:
    """Hand metrics to every logger on the axis of optimizer steps."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=step)


class MetricsLog(Callback):
    """Logs the means of a step's terms every ``every_steps``, with speed and waiting time.

    ``images_per_second`` counts all ranks; ``data_wait`` is the share of time spent waiting for
    the loader.
    """

    def __init__(self, *, every_steps: int, global_batch: int) -> None:
        self.every_steps, self.global_batch = every_steps, global_batch
        self.latest: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._clear(module)
        self._batch_end = self._started

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        self._waited += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        for name, value in outputs.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value.detach().float(), count + 1)
        if module.step >= self._step + self.every_steps:
            self._write(trainer, module)
        self._batch_end = time.perf_counter()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self._sums:
            self._write(trainer, module)

    def _write(self, trainer: Trainer, module: Any) -> None:
        names = sorted(self._sums)
        means = torch.stack([torch.as_tensor(s / n) for s, n in (self._sums[k] for k in names)])
        values = mean_over_ranks(means.to(module.device)).tolist()
        elapsed = time.perf_counter() - self._started
        steps = module.step - self._step
        self.latest = {f"train/{name}": v for name, v in zip(names, values, strict=True)} | {
            "learning_rate": module.trained[module.product].learning_rate(module.step - 1),
            "images_seen": module.step * self.global_batch,
            "images_per_second": steps * self.global_batch / elapsed,
            "data_wait": self._waited / elapsed,
        }
        log(trainer, module.step, self.latest)
        self._clear(module)

    def _clear(self, module: Any) -> None:
        self._sums: dict[str, Any] = {}
        self._started, self._waited, self._step = time.perf_counter(), 0.0, module.step


class JsonlLogger(Logger):
    """One JSON object per line in ``path``: {"step": ..., name: value, ...}; the local truth.

    Opening it at step s drops lines beyond s, which a resumed run writes again.
    """

    def __init__(self, path: str | Path, *, start_step: int) -> None:
        super().__init__()
        self.path = Path(path)
        self.start_step = start_step
        self._opened = False

    @property
    def name(self) -> str:
        return "jsonl"

    @property
    def version(self) -> str:
        return "0"

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run directory holds config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not self._opened:
            self._open()
        line = json.dumps({"step": step, **{k: float(v) for k, v in metrics.items()}})
        with open(self.path, "a") as file:
            file.write(line + "\n")

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_jsonl(self.path) if row["step"] <= self.start_step]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._opened = True


def read_jsonl(path: str | Path) -> list[dict[str, float]]:
    """The rows of a metrics file; none if it does not exist. A half last line is left out."""
    path = Path(path)
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
