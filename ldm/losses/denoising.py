"""The loss of a denoiser, per sample, and its split by noise level."""

import torch
from torch import Tensor


def denoising_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each sample: (B, C, h, w) twice -> (B,), in float32.

    Ho et al. 2020, eq. 14.
    """
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def by_timestep_bin(
    loss: Tensor, t: Tensor, num_steps: int, bins: int = 8
) -> tuple[Tensor, Tensor]:
    """Sums of the losses (B,) and counts in equal bins of t (B,) in [0, num_steps): (bins,) twice.

    Sums and counts, not means, so that batches and ranks add up; bin 0 has the least noise.
    """
    index = (t.float() * bins / num_steps).long().clamp(0, bins - 1)
    inside = index[:, None] == torch.arange(bins, device=t.device)  # (B, bins)
    # where, not a product: 0 * NaN would spread one bad sample over all bins.
    sums = torch.where(inside, loss.float()[:, None], 0.0).sum(0)
    return sums, inside.sum(0).to(sums.dtype)
