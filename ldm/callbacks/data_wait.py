"""How long training waits for its data."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

MAX_WAIT, PATIENCE_STEPS = 0.2, 200  # waiting for more than this share is worth a word


class DataWait(Callback):
    """Measures how long training waits for the loader, and says once where that is long.

    It comes last among the callbacks, so that their time does not count as waiting. Where more than
    a fifth of 200 steps' time was spent so, ``remark`` says it beside the number of ``workers``.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._seconds = 0.0
        self._steps, self._elapsed, self._waited = 0, 0.0, 0.0
        self._said = False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._ended = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        self._seconds += time.perf_counter() - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        self._ended = time.perf_counter()

    def take(self) -> float:
        """Seconds waited since it was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def remark(self, steps: int, elapsed: float, waited: float) -> str | None:
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
