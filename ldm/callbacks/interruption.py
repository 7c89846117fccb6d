"""Ctrl-C, termination signals and a limit of time: finish the step, save, leave."""

import os
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Any, Self

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only

AGREE_EVERY = 8  # steps between two agreements of several processes: the longest delay of a stop


class Interruption(Callback):
    """Turns Ctrl-C, ``signals`` and the end of ``seconds`` into a clean stop after a whole step.

    Used as a context, from when it is entered no signal is lost: one that comes before training
    begins stops it before the first step. One process alone stops after the step in progress;
    several, of which any may have been told, agree at multiples of ``AGREE_EVERY`` steps and at
    the start, so that other steps cost no communication. A second Ctrl-C stops at once.
    """

    def __init__(self, signals: Iterable[str] = (), seconds: float | None = None) -> None:
        self.seconds = seconds
        self.signal_number: int | None = None  # of what stopped the run; SIGALRM: its time is up
        self._numbers = {signal.SIGINT, *(signal.Signals[name] for name in signals)}
        if seconds is not None:
            self._numbers.add(signal.SIGALRM)
        self._before: dict[int, Any] = {}
        self._noted = 0
        self._step: int | None = None
        self._group: Any = None

    def __enter__(self) -> Self:
        for number in self._numbers:
            self._before[number] = signal.signal(number, self._note)
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, max(self.seconds, 1e-3))  # 0 would be never
        return self

    def __exit__(self, *exception: object) -> None:
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._noted = number
        if number == signal.SIGINT and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            # Not print(), which a handler may have interrupted in the middle of its work.
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once, unsaved\n")

    def setup(self, trainer: Trainer, module: Any, stage: str) -> None:
        """Keep Lightning's handlers out: theirs communicate from within, and at every step."""
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        self._step = module.step
        if trainer.world_size > 1:
            # On the host, where waiting for the others does not wait for the accelerator.
            self._group = torch.distributed.new_group(backend="gloo")
        self._stop_if_told(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if module.step == self._step:
            return
        self._step = module.step
        if trainer.is_last_batch:
            return  # which ends the run anyway, as a finished one
        if trainer.world_size == 1 or module.step % AGREE_EVERY == 0:
            self._stop_if_told(trainer)

    def _stop_if_told(self, trainer: Trainer) -> None:
        told = self._noted
        if trainer.world_size > 1:
            most = torch.tensor(told)
            torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX, self._group)
            told = int(most)
        if told:
            self.signal_number = told
            trainer.should_stop = True
