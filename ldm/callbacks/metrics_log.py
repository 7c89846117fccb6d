"""Logged numbers: means over steps, micro-batches and ranks, on the one counter."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from ldm.manifest import atomic
from ldm.nn.ranks import mean_over_ranks

MAX_WAIT, PATIENCE_STEPS = 0.2, 200  # waiting for more than this share is worth a word


def log(trainer: Trainer, step: int, metrics: dict[str, float]) -> None:
    """Hand metrics to every logger on the axis of optimizer steps."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=step)


class MetricsLog(Callback):
    """Logs the means of the steps' terms every ``every_steps``, with speed and waiting time.

    A step's terms are means over its micro-batches. ``images_per_second`` counts all ranks;
    ``data_wait_fraction`` is the share of the ranks' time spent waiting for the loader, and where
    that is more than a fifth over 200 steps it is said, once, beside the number of ``workers``.
    """

    def __init__(self, *, every_steps: int, global_batch: int, workers: int) -> None:
        self.every_steps, self.global_batch = every_steps, global_batch
        self.latest: dict[str, float] = {}
        self._patience = _Patience(workers)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._step_terms: dict[str, list[torch.Tensor]] = {}
        self._seen_step = module.step
        self._clear(module)
        self._batch_end = self._started

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        self._waited += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        for name, value in outputs.items():
            self._step_terms.setdefault(name, []).append(value.detach().float())
        if module.step != self._seen_step:  # the step is complete
            self._seen_step = module.step
            for name, values in self._step_terms.items():
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + sum(values) / len(values), count + 1)
            self._step_terms = {}
        if module.step >= self._step + self.every_steps:
            self._write(trainer, module)
        self._batch_end = time.perf_counter()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self._sums:
            self._write(trainer, module)

    def _write(self, trainer: Trainer, module: Any) -> None:
        names = sorted(self._sums)
        elapsed = time.perf_counter() - self._started
        means = [s / n for s, n in (self._sums[name] for name in names)]
        means.append(torch.tensor(self._waited / elapsed))
        *values, waited = mean_over_ranks(
            torch.stack([mean.to(module.device) for mean in means])
        ).tolist()
        steps = module.step - self._step
        self.latest = {f"train/{name}": v for name, v in zip(names, values, strict=True)} | {
            "learning_rate": module.trained[module.product].learning_rate(module.step - 1),
            "images_seen": module.step * self.global_batch,
            "images_per_second": steps * self.global_batch / elapsed,
            "data_wait_fraction": waited,
        }
        log(trainer, module.step, self.latest)
        remark = self._patience.see(steps, elapsed, waited * elapsed)
        if remark and trainer.is_global_zero:
            print(remark, flush=True)
        self._clear(module)

    def _clear(self, module: Any) -> None:
        self._sums: dict[str, Any] = {}
        self._started, self._waited, self._step = time.perf_counter(), 0.0, module.step


class _Patience:
    """Says once that a run waits for its data, when it does."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._steps, self._elapsed, self._waited = 0, 0.0, 0.0
        self._said = False

    def see(self, steps: int, elapsed: float, waited: float) -> str | None:
        """The remark, where one is due after so many more steps and seconds."""
        self._steps += steps
        self._elapsed += elapsed
        self._waited += waited
        if self._steps < PATIENCE_STEPS:
            return None
        share = self._waited / self._elapsed
        count, self._steps, self._elapsed, self._waited = self._steps, 0, 0.0, 0.0
        if self._said or share <= MAX_WAIT:
            return None
        self._said = True
        return (
            f"{share:.0%} of the last {count} steps' time was spent waiting for data: the loader, "
            f"not the model, is slow. Set data.workers to more than {self.workers}, or use a "
            "faster disk."
        )


class JsonlLogger(Logger):
    """One JSON object per line in ``path``: {"step": ..., name: value, ...}; the local truth.

    Opening it at step s drops lines beyond s, which a resumed run writes again. Lines that cannot
    be written (a full disk) are kept, and said once, until they can.
    """

    def __init__(self, path: str | Path, *, start_step: int) -> None:
        super().__init__()
        self.path = Path(path)
        self.start_step = start_step
        self._opened = False
        self._waiting = ""

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
        row = {"step": step, **{k: float(v) for k, v in metrics.items()}}
        first, self._waiting = not self._waiting, self._waiting + json.dumps(row) + "\n"
        try:
            if not self._opened:
                self._open()
            _append(self.path, self._waiting)
        except OSError as error:
            if first:
                print(
                    f"could not write {self.path} ({error.strerror}). Training goes on, and its "
                    "lines are kept until they can be written.",
                    flush=True,
                )
        else:
            self._waiting = ""

    def _open(self) -> None:
        kept = [row for row in read_jsonl(self.path) if row["step"] <= self.start_step]
        with atomic(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._opened = True


def _append(path: Path, text: str) -> None:
    """All of ``text`` at the end of a file, or nothing of it."""
    with open(path, "ab", buffering=0) as file:
        size, data = file.tell(), text.encode()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(size)
            raise


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none if it does not exist. A half last line is left out."""
    path = Path(path)
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
