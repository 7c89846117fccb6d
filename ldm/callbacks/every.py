"""Something to do every so many steps, counted on the one counter."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning import Callback, Trainer

Action = Callable[[Trainer, Any], None]


class Every(Callback):
    """Calls ``action(trainer, task)`` at every multiple of ``steps`` and at the end.

    ``when_stopped`` says whether the end counts also when the run was interrupted. What is due at
    the last step is done at the end, all in order: so its checkpoint comes after its validation,
    and a run that is killed between them goes on before both.
    """

    def __init__(self, steps: int, action: Action, *, when_stopped: bool) -> None:
        self.steps, self.action, self.when_stopped = steps, action, when_stopped
        self._done = 0

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        self._done = module.step

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if trainer.is_last_batch:
            return
        if module.step != self._done and module.step % self.steps == 0:
            self._act(trainer, module)

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        if module.step != self._done and (self.when_stopped or not trainer.should_stop):
            self._act(trainer, module)

    def _act(self, trainer: Trainer, module: Any) -> None:
        self._done = module.step
        self.action(trainer, module)
