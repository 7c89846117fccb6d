"""Flow matching on straight lines, rectified flow (Lipman et al. 2023; Liu et al. 2023)."""

import torch
from torch import Tensor, nn

from ldm.diffusion.schedule import NoiseSchedule
from ldm.ranges import Count


class StraightLine(nn.Module):
    """x = alpha x0 + sigma eps with alpha + sigma = 1, linear in t.

    t counts training steps, 0..T-1, and may be fractional: sigma = (t + 1) / T. The last step is
    pure noise, and no step is clean.
    """

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale at t, same shape as t, float64; 0 at T - 1."""
        return 1.0 - self.sigma(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale at t, same shape as t, float64; 1 at T - 1."""
        return (t.to(torch.float64).clamp(0, self.num_steps - 1) + 1.0) / self.num_steps

    def t_of(self, log_snr: Tensor) -> Tensor:
        """The fractional t of a log(alpha^2 / sigma^2), clamped to 0..T-1."""
        sigma = torch.sigmoid(-0.5 * log_snr.to(torch.float64))
        return (sigma * self.num_steps - 1.0).clamp(0, self.num_steps - 1)


def flow(*, num_steps: Count) -> NoiseSchedule:
    """The straight line from data to noise in T = ``num_steps`` training steps."""
    description: dict[str, str | float] = {"name": "flow", "num_steps": num_steps}
    return NoiseSchedule(StraightLine(num_steps), description=description)
