"""Variances linear in t (Ho et al. 2020); LDM's code calls this "sqrt_linear"."""

import torch

from ldm.diffusion.schedule import NoiseSchedule


def linear(*, num_steps: int, start: float, end: float) -> NoiseSchedule:
    """T = ``num_steps`` variances from ``start`` to ``end``."""
    betas = torch.linspace(start, end, num_steps, dtype=torch.float64)
    description: dict[str, str | float] = {"name": "linear", "num_steps": num_steps}
    description |= {"start": start, "end": end}
    return NoiseSchedule(betas, description=description)
