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


# What pause holds in a state: an attribute of the task, and its name for people.
_HELD = {
    "saturated": ("discriminator_paused", "the discriminator's learning is"),
    "idle": ("gan_paused", "the GAN's part in the autoencoder is"),
}


class GanWatchdog:
    """Names a state of stage autoencoder that has lasted, once, with what to do about it.

    It judges from when the autoencoder feels the discriminator. ``action`` pause also holds the
    one that is ahead until the state is over: a saturated discriminator does not learn, and the
    autoencoder does not feel one that is idle; a weight at its clamp is only said, for without it
    there is none to be seen. stop is a ValueError on every rank. It is shown the logged lines, and
    what it decides is a function of those and of its state.
    """

    def __init__(self, task: Any, action: Action) -> None:
        self.task, self.action = task, action
        self._since: dict[str, int] = {}  # step at which a state was seen first
        self._said: list[str] = []

    def __call__(self, trainer: Trainer, module: Any, line: dict[str, float]) -> None:
        """Look at one logged line."""
        task = self.task
        if "train/d_loss" not in line or not (task.gan > 0.0 or task.gan_paused):
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
        for state, (name, what) in _HELD.items():
            paused = getattr(task, name)
            now = state in lasting if not paused else state in present
            if self.action == "pause" and paused != now:
                setattr(task, name, now)
                if trainer.is_global_zero:
                    word = f"paused until D is no longer {state}" if now else "no longer paused"
                    print(f"step {module.step}: {what} {word}", flush=True)

    def state_dict(self) -> dict[str, Any]:
        """What was seen since when, what was said, and what is paused."""
        paused = [name for name, _ in _HELD.values() if getattr(self.task, name)]
        return {"since": self._since, "said": self._said, "paused": paused}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave; the pause where ``action`` still is one."""
        self._since, self._said = dict(state["since"]), list(state["said"])
        for name, _ in _HELD.values():
            setattr(self.task, name, name in state["paused"] and self.action == "pause")


def _states(line: dict[str, float]) -> Iterator[str]:
    """The names of the states that a line shows."""
    apart = line["train/logits_real"] - line["train/logits_fake"]
    if line["train/d_loss"] < _WON and apart > _FAR:
        yield "saturated"
    if abs(line["train/d_loss"] - 1.0) < _EVEN and abs(apart) < _EVEN:
        yield "idle"
    if line.get("train/d_weight_at_clamp", 0.0) > 0.5:
        yield "at clamp"
