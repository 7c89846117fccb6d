"""The scale of an fp16 loss, which keeps gradients within the range of their numbers."""

import torch
from torch import Tensor

from ldm.nn.ranks import mean_over_ranks

_FIRST, _LEAST, _PATIENCE_STEPS = 2.0**16, 1.0, 2000


class LossScale:
    """A power of two that losses are multiplied by and gradients divided by.

    It halves with every step that is not finite and doubles after 2,000 that are (Micikevicius et
    al. 2018, section 3.2), on the device; gradients are exact but for what would underflow.
    """

    def __init__(self) -> None:
        self.scale, self._finite_steps = torch.tensor(_FIRST), torch.tensor(0.0)
        self._sound = torch.tensor(1.0)  # whether the losses of the present step are finite

    def to(self, device: torch.device) -> None:
        """Move it to a device."""
        self.scale, self._finite_steps = self.scale.to(device), self._finite_steps.to(device)
        self._sound = self._sound.to(device)

    @property
    def is_least(self) -> Tensor:
        """Whether it cannot fall, so that a step that is not finite is no matter of range."""
        return self.scale <= _LEAST

    def see(self, loss: Tensor) -> None:
        """Take note of an unscaled loss of the present step."""
        self._sound = self._sound * loss.detach().isfinite()

    def take_sound(self) -> Tensor:
        """Whether all losses of the step were finite on all ranks; then forget them.

        Where they were not, no scale would help; where they were, gradients overflowed.
        """
        sound, self._sound = mean_over_ranks(self._sound) == 1.0, torch.ones_like(self._sound)
        return sound

    def update(self, finite: Tensor) -> None:
        """Take note of a step."""
        steps = (self._finite_steps + 1.0) * finite
        grows = steps >= _PATIENCE_STEPS
        up = torch.where(grows, 2.0 * self.scale, self.scale)
        self.scale = torch.where(finite, up, (0.5 * self.scale).clamp(min=_LEAST))
        self._finite_steps = torch.where(grows, 0.0, steps)

    def state_dict(self) -> dict[str, Tensor]:
        """The scale and the finite steps since it last changed."""
        return {"scale": self.scale, "finite_steps": self._finite_steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state_dict`` gave."""
        device = self.scale.device
        self.scale = state["scale"].to(device)
        self._finite_steps = state["finite_steps"].to(device)
