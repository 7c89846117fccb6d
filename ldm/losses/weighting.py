"""How much each noise level counts in the denoising loss."""

from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.prediction import Prediction
from ldm.ranges import Positive

Weighting = Callable[[Prediction, Tensor, Tensor], Tensor]
"""(prediction, alpha (B,), sigma (B,)) -> what multiplies the squared errors, (B,)."""


def uniform(prediction: Prediction, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Every level alike: the simple loss of Ho et al. 2020, eq. 14."""
    return alpha.new_ones(alpha.shape)


def min_snr(prediction: Prediction, alpha: Tensor, sigma: Tensor, *, gamma: Positive) -> Tensor:
    """min(snr, gamma) for the error of x0, whatever is predicted (Hang et al. 2023, section 3.4).

    For epsilon that is min(1, gamma / snr): nearly clean inputs, whose noise says little about
    the picture, count less.
    """
    snr = (alpha / sigma).square()
    return snr.clamp(max=gamma) / prediction.error_scale(alpha, sigma).square()
