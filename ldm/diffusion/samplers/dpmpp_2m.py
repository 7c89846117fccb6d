"""DPM-Solver++(2M), the second-order multistep solver in data prediction (Lu et al. 2022)."""

import math
from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.types import Denoise


def dpmpp_2m(
    denoise: Denoise, x: Tensor, levels: Levels, *, noise: Callable[[int], Tensor]
) -> Tensor:
    """Deterministic; one evaluation per step (Lu et al. 2022, algorithm 2, midpoint form).

    Of first order are the first step, the one after a level without signal, and the step to the
    clean level: there is no earlier estimate, or log(alpha / sigma) is infinite.
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
        x = sigma_next / sigma * x - alpha_next * math.expm1(-width) * estimate
        previous, previous_width = x0, width
    return x
