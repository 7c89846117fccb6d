"""Ancestral sampling (Ho et al. 2020, eq. 6 and 7) between any two levels."""

from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.types import Denoise


def ddpm(denoise: Denoise, x: Tensor, levels: Levels, *, noise: Callable[[int], Tensor]) -> Tensor:
    """Draws each x from the posterior q(x_next | x, x0) with its "small" variance."""
    for i in range(levels.num_steps):
        alpha, sigma = float(levels.alpha[i]), float(levels.sigma[i])
        alpha_next, sigma_next = float(levels.alpha[i + 1]), float(levels.sigma[i + 1])
        x0 = denoise(x, levels.t[i].expand(len(x)))
        ratio = alpha / alpha_next  # signal kept from the next level to this one
        added = sigma**2 - (ratio * sigma_next) ** 2  # variance added from the next level to this
        x = (alpha_next * added * x0 + ratio * sigma_next**2 * x) / sigma**2
        if sigma_next > 0.0:
            x = x + (added**0.5 * sigma_next / sigma) * noise(i)
    return x
