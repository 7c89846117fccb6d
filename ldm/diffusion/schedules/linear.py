"""Variances linear in t (Ho et al. 2020); LDM's code calls this "sqrt_linear"."""

import torch

from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.variance_preserving import VariancePreserving
from ldm.ranges import Count, Fraction


def linear(
    *, num_steps: Count, start: Fraction, end: Fraction, zero_terminal_snr: bool = False
) -> NoiseSchedule:
    """T = ``num_steps`` variances from ``start`` to ``end``.

    ``zero_terminal_snr`` rescales the signal to vanish at the last step (Lin et al. 2024).
    """
    betas = torch.linspace(start, end, num_steps, dtype=torch.float64)
    description: dict[str, str | float] = {"name": "linear", "num_steps": num_steps}
    description |= {"start": start, "end": end}
    return NoiseSchedule(
        VariancePreserving(betas, zero_terminal_snr=zero_terminal_snr),
        description=description | ({"zero_terminal_snr": True} if zero_terminal_snr else {}),
    )
