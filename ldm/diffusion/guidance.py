"""Classifier-free guidance, both halves: the drop in training and the push in sampling."""

import torch
from torch import Tensor

from ldm.random import stream, uniform
from ldm.types import Condition, Denoise


def drop(
    condition: Condition, null: Condition, rate: float, *, seed: int, step: int, index: Tensor
) -> Condition:
    """Replace a share ``rate`` of the conditions by ``null`` (Ho and Salimans 2021).

    Which samples lose theirs depends on (seed, step, global sample index (B,)) only. ``null`` has
    the parts of ``condition`` with a batch of one.
    """
    dropped = uniform(stream(seed, "drop", step), index) < rate  # (B,)

    def choose(part: Tensor | None, empty: Tensor | None) -> Tensor | None:
        if part is None or empty is None:
            return part
        return torch.where(dropped.view(-1, *[1] * (part.dim() - 1)), empty, part)

    return Condition(
        tokens=choose(condition.tokens, null.tokens),
        mask=choose(condition.mask, null.mask),
        vector=choose(condition.vector, null.vector),
        image=condition.image,
    )


def guided(
    denoiser: torch.nn.Module, condition: Condition, null: Condition, scale: float
) -> Denoise:
    """The denoiser with its condition bound and pushed away from ``null``.

    x0 = x0_null + scale (x0_condition - x0_null), which for a fixed x is the same as mixing the
    predicted noises. scale 1 is the plain conditional model at half the cost; ``null`` has the
    batch of ``condition`` (the encoding of "" or of a negative prompt).
    """
    if scale == 1.0:
        return lambda x, t: denoiser(x, t, condition)

    def join(empty: Tensor | None, part: Tensor | None) -> Tensor | None:
        # What the null lacks (a concatenated image) is the same on both sides, as in ``drop``.
        return None if part is None else torch.cat([part if empty is None else empty, part])

    both = Condition(*(join(a, b) for a, b in zip(null, condition, strict=True)))

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        without, with_ = denoiser(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return without + scale * (with_ - without)

    return denoise
