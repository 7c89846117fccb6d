"""DDIM (Song et al. 2021, eq. 12)."""

from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.ranges import Share
from ldm.types import Denoise


def ddim(
    denoise: Denoise,
    x: Tensor,
    levels: Levels,
    *,
    noise: Callable[[int], Tensor],
    eta: Share = 0.0,
) -> Tensor:
    """Deterministic for eta = 0; eta = 1 adds as much noise as ancestral sampling."""
    for i in range(levels.num_steps):
        alpha, sigma = float(levels.alpha[i]), float(levels.sigma[i])
        alpha_next, sigma_next = float(levels.alpha[i + 1]), float(levels.sigma[i + 1])
        x0 = denoise(x, levels.t[i].expand(len(x)))
        eps = (x - alpha * x0) / sigma
        ratio = alpha * sigma_next / (alpha_next * sigma)  # of sigma / alpha, next to present
        fresh = eta * sigma_next * max(0.0, 1.0 - ratio**2) ** 0.5
        x = alpha_next * x0 + max(0.0, sigma_next**2 - fresh**2) ** 0.5 * eps
        if fresh > 0.0:
            x = x + fresh * noise(i)
    return x
