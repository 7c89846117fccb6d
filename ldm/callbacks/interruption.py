"""Ctrl-C and termination signals: finish the step, save, leave."""

import signal
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer


class Interruption(Callback):
    """Turns SIGINT and SIGTERM into a clean stop after the step in progress.

    All ranks take the same decision. A second Ctrl-C stops at once. ``signal_number`` is the
    signal that stopped the run, or None.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}
        self._step: int | None = None

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        self._step = module.step
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if module.step == self._step:
            return
        self._step = module.step
        number = self.signal_number or 0
        if trainer.world_size > 1:
            noted = torch.tensor(number, device=module.device)
            torch.distributed.all_reduce(noted, op=torch.distributed.ReduceOp.MAX)
            number = int(noted)
        if number:
            self.signal_number = number
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        self._give_back()

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        self._give_back()

    def _give_back(self) -> None:
        # Before Lightning gives back its own handlers; later would bring Lightning's back.
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
