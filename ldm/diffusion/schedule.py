"""Noise schedules: how much signal and noise there is at each training step."""

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ldm.random import stream, uniform


class Levels(NamedTuple):
    """The noise levels a sampler visits, from noise to clean; each (N + 1,) float64.

    The last level is clean, alpha 1 and sigma 0, with a t that is never evaluated; but for grids
    of other origin, which may end above it.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def num_steps(self) -> int:
        """N, the number of steps between the levels."""
        return len(self.t) - 1

    def log_ratio(self, i: int) -> float:
        """log(alpha / sigma) of level i: infinite where clean, minus infinite without signal."""
        alpha, sigma = float(self.alpha[i]), float(self.sigma[i])
        if alpha == 0.0 or sigma == 0.0:
            return -math.inf if alpha == 0.0 else math.inf
        return math.log(alpha / sigma)


class Process(Protocol):
    """alpha and sigma as functions of t, in training steps 0..T-1, possibly fractional."""

    num_steps: int

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale at t, same shape as t, float64."""
        ...

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale at t, same shape as t, float64."""
        ...

    def t_of(self, log_snr: Tensor) -> Tensor:
        """The t at which log(alpha^2 / sigma^2) has the given value, clamped to 0..T-1."""
        ...


class NoiseSchedule(nn.Module):
    """A process of growing noise, with its training times and the levels of its samplers.

    The alpha of ``process``, a module, falls with t, and its sigma grows. ``description`` says in
    plain values which schedule it is, for manifests and exports.
    """

    steps: Tensor

    def __init__(self, process: Process, *, description: Mapping[str, str | float]) -> None:
        super().__init__()
        self.process = process
        self.description = dict(description)
        self.num_steps = process.num_steps
        self.register_buffer("steps", torch.arange(self.num_steps), persistent=False)

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale at t, same shape as t, float64."""
        return self.process.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale at t, same shape as t, float64."""
        return self.process.sigma(t)

    def t_of(self, log_snr: Tensor) -> Tensor:
        """The fractional t at which log(alpha^2 / sigma^2) has the given value; inverse of above.

        Values outside the schedule's range are clamped to its ends.
        """
        return self.process.t_of(log_snr)

    def draw(self, seed: int, step: int, index: Tensor, count: int) -> Tensor:
        """Training times t (B,) int64 for the global sample indices of a step of ``count`` samples.

        Each is uniform on 0..T-1; within one step they are stratified (one shared uniform, samples
        spread evenly after it, in the manner of Kingma et al. 2021, appendix I.1), which leaves
        every marginal uniform and lowers the variance of the loss.
        """
        shared = uniform(stream(seed, "timestep", step), torch.zeros_like(index[:1]))
        position = (shared + (index % count).to(torch.float64) / count) % 1.0
        return (position * self.num_steps).long().clamp(max=self.num_steps - 1)

    def levels(self, num_steps: int, spacing: str = "trailing") -> Levels:
        """The ``num_steps`` + 1 levels of a sampler; spacing trailing, leading, linspace or karras.

        trailing starts at T - 1 (Lin et al. 2024); leading is DDIM's grid t = i (T / N) with SD's
        offset of one; linspace spreads t over 0..T-1; karras spreads sigma^(1/7) (Karras et al.
        2022, eq. 5). Every grid ends clean.
        """
        if not 1 <= num_steps <= self.num_steps:
            raise ValueError(f"steps must lie in 1..{self.num_steps}, found {num_steps}.")
        if spacing not in (grids := {"trailing", "leading", "linspace", "karras"}):
            raise ValueError(
                f"spacing {spacing!r} is unknown; choose one of {', '.join(sorted(grids))}."
            )
        total, n = self.num_steps, num_steps
        rising = torch.arange(n, dtype=torch.float64, device=self.steps.device)
        if spacing == "trailing":
            t = (total - rising * total / n).round() - 1
        elif spacing == "leading":
            stride = total // n
            # N = T leaves no room for the offset, and no level may come twice.
            offset = min(1, total - 1 - (n - 1) * stride)
            t = (n - 1 - rising) * stride + offset
        elif spacing == "linspace":
            t = torch.linspace(total - 1, 0, n, dtype=torch.float64, device=rising.device).round()
        else:
            ends = self.steps[[-1, 0]]
            if float(self.alpha(ends)[0]) == 0.0:
                raise ValueError(
                    "spacing='karras' spreads sigma / alpha, which is infinite at the last step of "
                    "this schedule; set spacing=trailing."
                )
            edge = (self.sigma(ends) / self.alpha(ends)) ** (1.0 / 7.0)
            ramp = rising / max(n - 1, 1)
            t = self.t_of(-14.0 * torch.log(torch.lerp(edge[0], edge[1], ramp)))
        zero, one = torch.zeros_like(rising[:1]), torch.ones_like(rising[:1])
        return Levels(
            t=torch.cat([t, zero]),
            alpha=torch.cat([self.alpha(t), one]),
            sigma=torch.cat([self.sigma(t), zero]),
        )

    def extra_repr(self) -> str:
        last = self.steps[-1:]
        return f"{self.description}, last alpha {self.alpha(last).item():.4g}"
