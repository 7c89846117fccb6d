"""Euler's method on the probability flow (Karras et al. 2022, eq. 4)."""

from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.types import Denoise


def euler(denoise: Denoise, x: Tensor, levels: Levels, *, noise: Callable[[int], Tensor]) -> Tensor:
    """Deterministic, first order, one evaluation per step.

    With y = x / alpha and s = sigma / alpha the flow is dy/ds = eps. Multiplied out, a step keeps
    x0 and eps and mixes them anew, which is also DDIM's step at eta 0.
    """
    for i in range(levels.num_steps):
        alpha, sigma = float(levels.alpha[i]), float(levels.sigma[i])
        alpha_next, sigma_next = float(levels.alpha[i + 1]), float(levels.sigma[i + 1])
        x0 = denoise(x, levels.t[i].expand(len(x)))
        x = alpha_next * x0 + sigma_next / sigma * (x - alpha * x0)
    return x
