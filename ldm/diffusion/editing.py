"""Beginning from a picture, and keeping a part of it: what a sampler need not know about.

A picture enters as clean latents ``known``. Image to image gives a sampler fewer levels and a start
that is half picture, half noise (Meng et al. 2022); inpainting hands it another ``denoise``.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.types import Denoise


def steps_left(num_steps: int, strength: float) -> int:
    """How many of ``num_steps`` steps, the last ones, are made at a strength in (0, 1].

    Rounded down, as diffusers has it. ValueError where none is left.
    """
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength={strength:g} must be a number above 0, up to 1.")
    left = min(int(num_steps * strength), num_steps)
    if left < 1:
        raise ValueError(
            f"strength={strength:g} of steps={num_steps} leaves no step to make; set "
            f"strength={math.ceil(100 / num_steps) / 100} or more, or "
            f"steps={int(1.0 / strength) + 1} or more."
        )
    return left


def shortened(levels: Levels, strength: float) -> Levels:
    """The last levels, as many as a strength in (0, 1] leaves.

    The first of them is both the level at which noise is added and the first that is denoised.
    """
    first = levels.num_steps - steps_left(levels.num_steps, strength)
    return Levels(*(part[first:] for part in levels))


def keeping(
    sampler: Callable[..., Tensor],
    known: Tensor,
    known_at: Callable[[Tensor], Tensor],
    mask: Tensor,
) -> Callable[..., Tensor]:
    """A sampler whose samples are ``known`` (1, C, h, w) where ``mask`` (1, 1, h, w) is False.

    Wherever the network looks after the start, it finds ``known_at(t)`` there, the known picture
    with the noise of t, which is always the same one; at the end stands the clean picture.

    That is blending after each step (diffusers' inpainting; Lugmayr et al. 2022 without their
    resampling), for a sampler of any order that knows nothing of it. A sampler's own arithmetic
    never mixes positions, only the network does. So what it carries on outside of the mask (its
    x, its history, an x it corrects later) reaches the inside through the network's input alone,
    which is right at every evaluation, those within a step included.
    """

    def kept(
        denoise: Denoise, x: Tensor, levels: Levels, *, noise: Callable[[int], Tensor]
    ) -> Tensor:
        def surrounded(x: Tensor, t: Tensor) -> Tensor:
            at_start = bool(t[0] == levels.t[0])
            return denoise(x if at_start else torch.where(mask, x, known_at(t)), t)

        return torch.where(mask, sampler(surrounded, x, levels, noise=noise), known)

    return kept


def mask_channels(mask: Tensor, masked: Tensor) -> Tensor:
    """What an inpainting network sees beside x: (B, 1 + C, h, w), the mask first.

    ``mask`` (B, 1, h, w) bool, True (1) where it is to paint; ``masked`` (B, C, h, w) are the
    normalised latents of the picture with that part greyed out (Stable Diffusion 1's order; that
    of CompVis' first inpainting model was another).
    """
    return torch.cat([mask.to(masked.dtype), masked], dim=1)
