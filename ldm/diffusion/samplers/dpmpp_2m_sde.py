"""SDE-DPM-Solver++(2M), the stochastic second-order multistep solver (Lu et al. 2022)."""

import math
from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.types import Denoise


def dpmpp_2m_sde(
    denoise: Denoise, x: Tensor, levels: Levels, *, noise: Callable[[int], Tensor]
) -> Tensor:
    """Stochastic; one evaluation per step; midpoint form.

    Of first order, which is ancestral sampling, are the first step, the one after a level without
    signal, and the step to the clean level.
    """
    previous, previous_width = x, math.inf
    for i in range(levels.num_steps):
        sigma = float(levels.sigma[i])
        alpha_next, sigma_next = float(levels.alpha[i + 1]), float(levels.sigma[i + 1])
        x0 = denoise(x, levels.t[i].expand(len(x)))
        if sigma_next == 0.0:
            return alpha_next * x0
        # Step width in log(alpha / sigma), in which the solver's expansion is made.
        width = levels.log_ratio(i + 1) - levels.log_ratio(i)
        estimate = x0
        if math.isfinite(previous_width):
            estimate = x0 + (x0 - previous) * (width / (2.0 * previous_width))
        fresh = -math.expm1(-2.0 * width)  # the share of the next level's noise that is new
        x = sigma_next / sigma * math.exp(-width) * x + alpha_next * fresh * estimate
        x = x + sigma_next * fresh**0.5 * noise(i)
        previous, previous_width = x0, width
    return x
