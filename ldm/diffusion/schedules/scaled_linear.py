"""Variances whose square root is linear in t (Rombach et al. 2022; LDM's "linear")."""

import torch

from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.variance_preserving import VariancePreserving
from ldm.ranges import Count, Fraction


def scaled_linear(
    *, num_steps: Count, start: Fraction, end: Fraction, zero_terminal_snr: bool = False
) -> NoiseSchedule:
    """T = ``num_steps`` variances from ``start`` to ``end``.

    ``zero_terminal_snr`` rescales the signal to vanish at the last step (Lin et al. 2024).
    """
    betas = torch.linspace(start**0.5, end**0.5, num_steps, dtype=torch.float64).square()
    description: dict[str, str | float] = {"name": "scaled_linear", "num_steps": num_steps}
    description |= {"start": start, "end": end}
    return NoiseSchedule(
        VariancePreserving(betas, zero_terminal_snr=zero_terminal_snr),
        description=description | ({"zero_terminal_snr": True} if zero_terminal_snr else {}),
    )
