"""Feature vectors of unit length, with a gradient that is finite at zero."""

from torch import Tensor


def unit_channels(features: Tensor, eps: float = 1e-10) -> Tensor:
    """Features (B, C, h, w) divided by their length over C: f / sqrt(|f|^2 + eps).

    eps is inside the root: outside of it, as in the original of LPIPS, the derivative of the root
    is infinite where all channels are zero, and a constant image gives NaN.
    """
    return features * features.square().sum(dim=1, keepdim=True).add(eps).rsqrt()
