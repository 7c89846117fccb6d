"""Variances whose square root is linear in t (Rombach et al. 2022; LDM's "linear")."""

import torch

from ldm.diffusion.schedule import NoiseSchedule


def scaled_linear(*, num_steps: int, start: float, end: float) -> NoiseSchedule:
    """T = ``num_steps`` variances from ``start`` to ``end``."""
    betas = torch.linspace(start**0.5, end**0.5, num_steps, dtype=torch.float64).square()
    description: dict[str, str | float] = {"name": "scaled_linear", "num_steps": num_steps}
    description |= {"start": start, "end": end}
    return NoiseSchedule(betas, description=description)
