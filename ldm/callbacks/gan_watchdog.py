"""Whether the game of autoencoder and discriminator still goes on, told from logged numbers."""

from collections.abc import Iterator
from typing import Any, Literal

from pytorch_lightning import Trainer

Action = Literal["warn", "pause", "stop"]

PATIENCE_STEPS = 500  # a state that lasts this long is no transient
_WON, _EVEN, _FAR = 0.05, 0.02, 2.0  # of the hinge loss, 1 where logits are 0; of the logits' gap

STATES = {
    "saturated": (
        "the discriminator tells all pictures apart (its loss is near 0 and its logits are far "
        "apart), so it teaches the autoencoder nothing. Lower disc_lr or loss.gan, or start the "
        "GAN later (loss.disc_start, loss.gan_start)."
    ),
    "idle": (
        "the discriminator tells nothing apart (its loss stays at 1 and its logits are equal). "
        "Raise disc_lr, or give it more loss.gan_start - loss.disc_start steps alone."
    ),
    "at clamp": (
        "the adaptive weight of the GAN is at its limit (loss.adaptive_limit): the adversarial "
        "gradient has all but vanished at the decoder's last layer. Lower loss.adaptive_limit or "
        "disc_lr."
    ),
}


class GanWatchdog:
    """Names a state of stage autoencoder that has lasted, once, with what to do about it.

    ``action`` pause also takes the GAN's weight from the autoencoder, while the discriminator goes
    on learning, until it is neither saturated nor idle; a weight at its clamp is only said, for
    without it there is none to be seen. stop is a ValueError on every rank. It is shown the logged
    lines, and what it decides is a function of those and of its state.
    """

    def __init__(self, task: Any, action: Action) -> None:
        self.task, self.action = task, action
        self._since: dict[str, int] = {}  # step at which a state was seen first
        self._said: list[str] = []

    def __call__(self, trainer: Trainer, module: Any, line: dict[str, float]) -> None:
        """Look at one logged line."""
        if "train/d_loss" not in line:
            return
        present = list(_states(line))
        self._since = {name: self._since.get(name, module.step) for name in present}
        lasting = [s for s in present if module.step - self._since[s] >= PATIENCE_STEPS]
        for state in lasting:
            if self.action == "stop":
                raise ValueError(f"gan_watchdog=stop at step {module.step}: {STATES[state]}")
            if state not in self._said:
                self._said.append(state)
                if trainer.is_global_zero:
                    print(f"step {module.step}, D {state}: {STATES[state]}", flush=True)
        if self.action == "pause" and {"saturated", "idle"} & set(lasting):
            self._pause(trainer, module, True)
        elif not {"saturated", "idle"} & set(present):
            self._pause(trainer, module, False)

    def _pause(self, trainer: Trainer, module: Any, paused: bool) -> None:
        if paused != self.task.gan_paused and trainer.is_global_zero:
            what = "is paused until the discriminator recovers" if paused else "goes on"
            print(f"step {module.step}: the GAN's part in the autoencoder {what}", flush=True)
        self.task.gan_paused = paused

    def state_dict(self) -> dict[str, Any]:
        """What was seen since when, what was said, and whether the GAN is paused."""
        return {"since": self._since, "said": self._said, "paused": self.task.gan_paused}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave; the pause where ``action`` still is one."""
        self._since, self._said = dict(state["since"]), list(state["said"])
        self.task.gan_paused = state["paused"] and self.action == "pause"


def _states(line: dict[str, float]) -> Iterator[str]:
    """The names of the states that a line shows."""
    apart = line["train/logits_real"] - line["train/logits_fake"]
    if line["train/d_loss"] < _WON and apart > _FAR:
        yield "saturated"
    if abs(line["train/d_loss"] - 1.0) < _EVEN and abs(apart) < _EVEN:
        yield "idle"
    if line.get("train/d_weight_at_clamp", 0.0) > 0.5:
        yield "at clamp"
