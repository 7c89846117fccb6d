"""Heun's method on the probability flow (Karras et al. 2022, algorithm 1)."""

from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.types import Denoise


def heun(denoise: Denoise, x: Tensor, levels: Levels, *, noise: Callable[[int], Tensor]) -> Tensor:
    """Deterministic, second order; N steps take 2 N - 1 evaluations.

    The flow is dy/ds = eps with y = x / alpha and s = sigma / alpha: Euler's method to the next
    level, and then again with the mean of the noise found at both ends. The step to the clean
    level, where nothing is evaluated, is Euler's alone; so is one from a level without signal,
    where y is infinite.
    """
    for i in range(levels.num_steps):
        alpha, sigma = float(levels.alpha[i]), float(levels.sigma[i])
        alpha_next, sigma_next = float(levels.alpha[i + 1]), float(levels.sigma[i + 1])
        x0 = denoise(x, levels.t[i].expand(len(x)))
        eps = (x - alpha * x0) / sigma
        there = alpha_next * x0 + sigma_next * eps
        if alpha > 0.0 and sigma_next > 0.0:
            x0_there = denoise(there, levels.t[i + 1].expand(len(x)))
            eps = 0.5 * (eps + (there - alpha_next * x0_there) / sigma_next)
            ratio = alpha_next / alpha
            there = ratio * x + (sigma_next - ratio * sigma) * eps
        x = there
    return x
