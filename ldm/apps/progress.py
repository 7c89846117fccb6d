"""Progress for people: Rich bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pytorch_lightning import Callback, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ldm.callbacks.metrics_log import MetricsLog

T = TypeVar("T")
LINE_SECONDS = 10.0  # how often a line is written where there is no terminal

console = Console(soft_wrap=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.3g}/s" if task.speed else "", style="cyan")


class Bar:
    """One named loop: a live bar on a terminal, else a line now and then.

    ``total`` is None where its length is not known.
    """

    def __init__(self, name: str, total: int | None, *, start: int = 0) -> None:
        self.name, self.total, self.first = name, total, start
        self._live: Progress | None = None
        self._begun = self._line = time.monotonic()
        if sys.stdout.isatty():
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
            self._live.start()
            self._task = self._live.add_task(name, total=total, completed=start, note="")

    def update(self, done: int, note: str = "") -> None:
        """Show that ``done`` of the total are done."""
        if self._live is not None:
            self._live.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._line > LINE_SECONDS:
            self._line = time.monotonic()
            rate = (done - self.first) / (self._line - self._begun)
            of, left = "", ""
            if self.total is not None:
                seconds = (self.total - done) / rate if rate > 0.0 else float("inf")
                of, left = f"/{self.total}", f", {seconds:.0f} s left"
            print(f"{self.name}: {done}{of}, {rate:.3g}/s{left} {note}")
            sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._live is not None:
            self._live.stop()


def track(items: Iterable[T], name: str, total: int) -> Iterator[T]:
    """The items, one tick of a bar each."""
    bar = Bar(name, total)
    try:
        for done, item in enumerate(items, 1):
            yield item
            bar.update(done)
    finally:
        bar.close()


def watch(counts: Iterable[int], name: str, total: int) -> None:
    """Run a loop that yields how much it has done, behind a bar."""
    bar = Bar(name, total)
    try:
        for done in counts:
            bar.update(done)
    finally:
        bar.close()


class TrainingProgress(Callback):
    """The bar of a training run, with the loss that was logged last."""

    def __init__(self, name: str, max_steps: int, metrics_log: MetricsLog) -> None:
        self.name, self.max_steps, self.metrics_log = name, max_steps, metrics_log
        self._bar: Bar | None = None
        self._step = -1

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        if trainer.is_global_zero:
            self._bar = Bar(self.name, self.max_steps, start=module.step)

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if self._bar is not None and module.step != self._step:
            self._step = module.step
            loss = self.metrics_log.latest.get("train/loss")
            self._bar.update(module.step, "" if loss is None else f"loss {loss:.4g}")

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
