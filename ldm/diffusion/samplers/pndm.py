"""Pseudo linear multistep, PLMS (Liu et al. 2022), the sampler Stable Diffusion shipped."""

from collections.abc import Callable

import torch
from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.types import Denoise

# Adams-Bashforth: how the newest noise and those before it are weighed, by how many there are.
_WEIGHTS = {
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def pndm(denoise: Denoise, x: Tensor, levels: Levels, *, noise: Callable[[int], Tensor]) -> Tensor:
    """Deterministic; N steps take N + 1 evaluations, as the first is made twice.

    Each step is DDIM's with a noise extrapolated from the last four. The weights are those of
    equal steps in sigma / alpha: of third order there, of second order on other smooth grids.
    """
    history: list[Tensor] = []  # predicted noise, the newest first
    for i in range(levels.num_steps):
        alpha, sigma = float(levels.alpha[i]), float(levels.sigma[i])
        alpha_next, sigma_next = float(levels.alpha[i + 1]), float(levels.sigma[i + 1])
        x0 = denoise(x, levels.t[i].expand(len(x)))
        eps = (x - alpha * x0) / sigma
        history = [eps, *history[:3]]
        if len(history) > 1:
            weighed = zip(_WEIGHTS[len(history)], history, strict=True)
            eps = sum((weight * past for weight, past in weighed), torch.zeros_like(x))
        elif alpha > 0.0 and sigma_next > 0.0:
            # No history yet: the noise at the next level, looked up there and not kept.
            there = alpha_next * x0 + sigma_next * eps
            x0_there = denoise(there, levels.t[i + 1].expand(len(x)))
            eps = 0.5 * (eps + (there - alpha_next * x0_there) / sigma_next)
        else:
            # Without signal in x its noise cannot be replaced by another; a clean level has none.
            x = alpha_next * x0 + sigma_next * eps
            continue
        ratio = alpha_next / alpha
        x = ratio * x + (sigma_next - ratio * sigma) * eps
    return x
