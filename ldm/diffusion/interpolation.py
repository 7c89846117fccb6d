"""From one picture to another: between their noises on a sphere, between their conditions straight.

``weight`` (B,) in [0, 1] is how far each sample has come; at 0 and 1 the ends are met to the bit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.types import Condition


def slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Spherical interpolation of (B, ...) per sample, over all its values (Shoemake 1985).

    Between independent normal noises every point has a standard deviation of 1; on the straight
    line the middle has 0.707, and networks know no such noise. Vectors that are nearly parallel
    or opposite have no arc of their own: there the line is taken.
    """
    first, second = a.flatten(1).double(), b.flatten(1).double()  # (B, values)
    share = weight.double().view(-1, 1)
    angle = F.cosine_similarity(first, second).clamp(-1.0, 1.0).acos().view(-1, 1)
    sine = angle.sin()
    arc = ((1.0 - share) * angle).sin() / sine * first + (share * angle).sin() / sine * second
    mixed = torch.where(sine > 1e-6, arc, torch.lerp(first, second, share))
    return mixed.view(a.shape).to(a.dtype)


def lerp(a: Condition, b: Condition, weight: Tensor) -> Condition:
    """Linear interpolation of two conditions of one encoder, part by part, per sample.

    A token is real where it is on a side that has a weight.
    """

    def mixed(one: Tensor | None, other: Tensor | None) -> Tensor | None:
        if one is None or other is None:
            assert one is other, "conditions of two kinds"
            return None
        share = weight.view(-1, *[1] * (one.dim() - 1))
        if one.dtype == torch.bool:
            return (one & (share < 1.0)) | (other & (share > 0.0))
        return torch.lerp(one, other, share.to(one.dtype))

    return Condition(*(mixed(one, other) for one, other in zip(a, b, strict=True)))
