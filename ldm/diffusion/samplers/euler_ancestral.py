"""Euler's method with ancestral noise: each step goes further down and noise brings it back."""

from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.ranges import Share
from ldm.types import Denoise


def euler_ancestral(
    denoise: Denoise,
    x: Tensor,
    levels: Levels,
    *,
    noise: Callable[[int], Tensor],
    eta: Share = 1.0,
) -> Tensor:
    """Stochastic; eta scales the fresh noise, from 0 (Euler's method) to 1 (ancestral sampling).

    In s = sigma / alpha a step from s to s' goes down to sqrt(s'^2 - up^2) and adds noise of
    up = eta s' sqrt(1 - (s' / s)^2), the spread of q(x' | x, x0) (Song et al. 2021, section 3).
    """
    for i in range(levels.num_steps):
        alpha, sigma = float(levels.alpha[i]), float(levels.sigma[i])
        alpha_next, sigma_next = float(levels.alpha[i + 1]), float(levels.sigma[i + 1])
        x0 = denoise(x, levels.t[i].expand(len(x)))
        ratio = alpha * sigma_next / (alpha_next * sigma)  # s' / s
        up = eta * max(0.0, 1.0 - ratio**2) ** 0.5  # of sigma_next
        down = max(0.0, 1.0 - up**2) ** 0.5
        x = alpha_next * x0 + down * sigma_next / sigma * (x - alpha * x0)
        if up * sigma_next > 0.0:
            x = x + up * sigma_next * noise(i)
    return x
