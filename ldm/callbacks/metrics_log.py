"""Logged numbers: means over steps, micro-batches and ranks, on the one counter."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from ldm.callbacks.data_wait import DataWait
from ldm.callbacks.loggers.backend import Picture
from ldm.callbacks.loggers.follower import Follower
from ldm.callbacks.peak_memory import PeakMemory
from ldm.callbacks.rows import Rows
from ldm.callbacks.rows import read_jsonl as read_jsonl  # who logs is asked for the rows
from ldm.nn.ranks import mean_over_ranks

OF_THE_MACHINE = frozenset(
    {"images_per_second", "tflops_per_second", "mfu", "data_wait_fraction", "peak_memory_gb"}
)
"""Logged numbers that are those of the machine and the hour, not of what is learned."""
Reader = Callable[[Trainer, Any, dict[str, float]], None]
"""What is shown each logged line, on every rank: (trainer, task, line)."""


def log(trainer: Trainer, step: int, metrics: dict[str, float]) -> None:
    """Hand metrics to every logger on the axis of optimizer steps."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=step)


def show(trainer: Trainer, picture: Picture) -> None:
    """Hand a sheet of pictures that rank 0 has written to the programs that show the run."""
    for logger in trainer.loggers:
        if isinstance(logger, JsonlLogger):
            logger.show(picture)


class MetricsLog(Callback):
    """Logs the means of the steps' terms every ``every_steps``, with speed and waiting time.

    A step's terms are means over its micro-batches; what is not finite is left out, and so is a
    term that never is. They are summed on the device, and the host reads them only to log them.
    ``images_per_second`` counts all ranks; ``data_wait_fraction`` is the share of the ranks' time
    spent waiting for the loader, if ``wait`` is among the trainer's callbacks, as the last.
    ``skipped_steps`` of those since the line before took no effect; ``peak_memory_gb`` is that of
    PeakMemory. ``readers`` are shown each line. ``flops_per_image`` of the trained network (1 MAC =
    2 FLOP, forward and backward, nothing recomputed or frozen) give ``tflops_per_second`` of each
    device on average, and with its ``peak_flops`` per second ``mfu``. Its state is the line begun,
    so that a resumed run writes the same lines.
    """

    def __init__(
        self,
        *,
        every_steps: int,
        global_batch: int,
        workers: int,
        readers: Sequence[Reader] = (),
        flops_per_image: float | None = None,
        peak_flops: float | None = None,
    ) -> None:
        self.flops_per_image, self.peak_flops = flops_per_image, peak_flops
        self.every_steps, self.global_batch, self.readers = every_steps, global_batch, readers
        self.latest: dict[str, float] = {}
        self.wait = DataWait(workers)
        self._module: Any = None
        self._restored: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        self._module = module
        self._step_terms: dict[str, list[Tensor]] = {}
        self._names: list[str] = []
        self._missing = torch.tensor(float("nan"), device=module.device)
        self._memory = PeakMemory(module.device)
        self._seen_step = module.step
        self._images = module.step * self.global_batch
        self._sums = self._counts = torch.zeros(0, device=module.device)  # by name
        self._clear()
        if self._restored is not None:
            self._take_up(self._restored)

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        for name, value in outputs.items():
            self._step_terms.setdefault(name, []).append(value.detach().float())
        if module.step != self._seen_step:  # the step is complete
            self._seen_step = module.step
            self._images += self.global_batch
            terms = self._step_terms.items()
            self._add({name: sum(v) / len(v) if len(v) > 1 else v[0] for name, v in terms})
            self._step_terms = {}
            if module.step >= self._step + self.every_steps:
                self._write(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if module.step > self._step and not trainer.should_stop:
            self._write(trainer)

    def leave_out(self, seconds: float) -> None:
        """Do not count a pause that has just ended in the speed of training."""
        self._started += seconds

    def _add(self, terms: dict[str, Any]) -> None:
        if new := [name for name in terms if name not in self._names]:
            self._names += new
            more = self._sums.new_zeros(len(new))
            self._sums, self._counts = (torch.cat([x, more]) for x in (self._sums, self._counts))
        values = torch.stack([terms.get(name, self._missing) for name in self._names])
        finite = values.isfinite()
        self._sums.add_(torch.where(finite, values, 0.0))
        self._counts.add_(finite)

    def _write(self, trainer: Trainer) -> None:
        module = self._module
        part = module.trained[module.product]
        elapsed = time.perf_counter() - self._started
        steps = module.step - self._timed
        share = torch.tensor([self.wait.take() / elapsed], device=module.device)
        means = mean_over_ranks(torch.cat([self._sums, self._counts, share, part.skips()[:1]]))
        sums, counts, of_ranks = means.split([len(self._names), len(self._names), 2])
        waited, skipped = of_ranks.tolist()
        found = sorted(zip(self._names, (sums / counts).tolist(), strict=True))
        self.latest = {f"train/{name}": v for name, v in found if math.isfinite(v)} | {
            "learning_rate": part.learning_rate(module.step - 1),
            "images_seen": self._images,
            "images_per_second": steps * self.global_batch / elapsed,
            "data_wait_fraction": waited,
            "skipped_steps": skipped,
            "peak_memory_gb": self._memory.take(),
        }
        if self.flops_per_image is not None:
            speed = self.latest["images_per_second"] * self.flops_per_image / trainer.world_size
            self.latest["tflops_per_second"] = speed / 1e12
            if self.peak_flops is not None:
                self.latest["mfu"] = speed / self.peak_flops
        if part.loss_scale is not None:
            self.latest["loss_scale"] = float(part.loss_scale.scale)
        log(trainer, module.step, self.latest)
        remark = self.wait.remark(steps, elapsed, waited * elapsed)
        if remark and trainer.is_global_zero:
            print(remark, flush=True)
        for reader in self.readers:
            reader(trainer, module, self.latest)
        part.looked()
        self._clear()

    def _clear(self) -> None:
        self._sums = torch.zeros(len(self._names), device=self._missing.device)
        self._counts = torch.zeros_like(self._sums)
        self._started = time.perf_counter()
        self._step = self._timed = self._module.step

    def state_dict(self) -> dict[str, Any]:
        """The sums and counts of the line begun, and the step at which it began."""
        if self._module is None:
            return {}
        part = self._module.trained[self._module.product]
        return {
            "names": list(self._names),
            "sums": mean_over_ranks(self._sums).clone(),  # what each takes up is its share of all
            "counts": mean_over_ranks(self._counts).clone(),
            "step": self._step,
            "images_seen": self._images,
            "skips": part.skips().clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the line begun, when training starts."""
        self._restored = state or None

    def _take_up(self, state: dict[str, Any]) -> None:
        self._names, self._step = list(state["names"]), state["step"]
        self._images = state["images_seen"]  # at another global batch than now, perhaps
        device = self._missing.device
        self._sums, self._counts = state["sums"].to(device), state["counts"].to(device)
        self._module.trained[self._module.product].skips().copy_(state["skips"])


class JsonlLogger(Logger):
    """The one logger that Lightning knows: rows go to the file ``path``, and on to its followers.

    Opening it at ``start_step`` drops the rows beyond, as Rows says. ``followers`` are those of
    rank 0; they begin when that has been done.
    """

    def __init__(
        self, path: str | Path, *, start_step: int, followers: Sequence[Follower] = ()
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self._rows = Rows(path, start_step=start_step)
        self._followers, self._is_followed = followers, False
        if followers and self._rows.open():
            self._begin()

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
        if self._rows.append({"step": step, **{k: float(v) for k, v in metrics.items()}}):
            if not self._is_followed:
                self._begin()
            for follower in self._followers:
                follower.wake()

    def show(self, picture: Picture) -> None:
        """Hand on a sheet of pictures."""
        for follower in self._followers:
            follower.show(picture)

    def finalize(self, status: str) -> None:
        for follower in self._followers:
            follower.finish(failed=status != "success")

    def _begin(self) -> None:
        self._is_followed = True
        for follower in self._followers:
            follower.start()
