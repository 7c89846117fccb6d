"""Classifier-free guidance, both halves: the drop in training and the push in sampling."""

import torch
from torch import Tensor

from ldm.diffusion.denoiser import Denoiser
from ldm.random import stream, uniform
from ldm.types import Condition, Denoise


def drop(
    condition: Condition, null: Condition, rate: float, *, seed: int, step: int, index: Tensor
) -> Condition:
    """Replace a share ``rate`` of the conditions by ``null`` (Ho and Salimans 2021).

    Which samples lose theirs depends on (seed, step, global sample index (B,)) only. ``null`` has
    the parts of ``condition``, each with its batch or a batch of one.
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
    denoiser: Denoiser,
    condition: Condition,
    null: Condition,
    scale: float,
    *,
    rescale: float = 0.0,
    interval: tuple[float, float] | None = None,
) -> Denoise:
    """The denoiser with its condition bound and pushed away from ``null``.

    x0 = x0_null + scale (x0_condition - x0_null), which for a fixed x is the same as mixing the
    predicted noises. scale 1 is the plain conditional model at half the cost; ``null`` has the
    batch of ``condition`` (the encoding of "" or of a negative prompt).

    ``rescale`` (0..1) is the share in which the network's mixed output gets back the standard
    deviation of its conditional output, per sample (Lin et al. 2024, section 3.4: their phi).
    ``interval`` (low, high) of sigma / alpha is where there is guidance, low < sigma / alpha <=
    high; elsewhere the model is the plain conditional one (Kynkaanniemi et al. 2024).
    """

    def plain(x: Tensor, t: Tensor) -> Tensor:
        return denoiser(x, t, condition)

    if scale == 1.0 or all(part is None for part in condition):  # or there is nothing to push
        return plain

    def join(empty: Tensor | None, part: Tensor | None) -> Tensor | None:
        # What the null lacks (a concatenated image) is the same on both sides, as in ``drop``.
        return None if part is None else torch.cat([part if empty is None else empty, part])

    both = Condition(*(join(a, b) for a, b in zip(null, condition, strict=True)))

    def pushed(x: Tensor, t: Tensor) -> Tensor:
        if rescale > 0.0:
            outputs = denoiser.predict(torch.cat([x, x]), torch.cat([t, t]), both)
            without, with_ = outputs.chunk(2)
            return denoiser.x0(x, t, _rescaled(without + scale * (with_ - without), with_, rescale))
        without, with_ = denoiser(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return without + scale * (with_ - without)

    if interval is None:
        return pushed
    low, high = interval

    def pushed_inside(x: Tensor, t: Tensor) -> Tensor:
        ratio = denoiser.schedule.sigma(t) / denoiser.schedule.alpha(t)  # infinite without signal
        inside = (low < ratio) & (ratio <= high)
        if inside.all():
            return pushed(x, t)
        if not inside.any():
            return plain(x, t)
        return torch.where(inside.view(-1, *[1] * (x.dim() - 1)), pushed(x, t), plain(x, t))

    return pushed_inside


def _rescaled(mixed: Tensor, conditional: Tensor, share: float) -> Tensor:
    dims = tuple(range(1, mixed.dim()))
    factor = conditional.std(dims, keepdim=True) / mixed.std(dims, keepdim=True)
    return share * (mixed * factor) + (1.0 - share) * mixed
