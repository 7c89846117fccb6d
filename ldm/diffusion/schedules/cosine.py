"""Signal that falls like a squared cosine (Nichol and Dhariwal 2021, eq. 17)."""

import math

import torch

from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.variance_preserving import VariancePreserving
from ldm.ranges import Count

_OFFSET = 0.008  # keeps the first variances from vanishing
_LARGEST = 0.999  # of the variances; the last would be 1


def cosine(*, num_steps: Count, zero_terminal_snr: bool = False) -> NoiseSchedule:
    """T = ``num_steps`` variances with alpha_bar = cos^2 up to a factor.

    ``zero_terminal_snr`` takes the last bit of signal, alpha 5e-5 for T = 1000, from the last step.
    """
    time = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    alpha_bar = torch.cos((time + _OFFSET) / (1.0 + _OFFSET) * (math.pi / 2.0)).square()
    betas = (1.0 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=_LARGEST)
    description: dict[str, str | float] = {"name": "cosine", "num_steps": num_steps}
    return NoiseSchedule(
        VariancePreserving(betas, zero_terminal_snr=zero_terminal_snr),
        description=description | ({"zero_terminal_snr": True} if zero_terminal_snr else {}),
    )
