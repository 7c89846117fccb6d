"""The likelihood of an autoencoder's reconstructions (Rombach et al. 2022), in float32."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm.ranges import Natural, NonNegative, Positive


@dataclass(frozen=True, kw_only=True)
class AutoencoderWeights:
    """How the terms are weighed and when the discriminator enters, in steps of the autoencoder.

    From ``disc_start`` the discriminator learns; from ``gan_start`` the autoencoder feels it,
    rising linearly over ``gan_ramp_steps``. ``adaptive_limit`` clamps the adaptive weight.
    """

    l1: NonNegative
    l2: NonNegative
    perceptual: NonNegative
    kl: NonNegative
    gan: NonNegative
    disc_start: Natural
    gan_start: Natural
    gan_ramp_steps: Natural
    adaptive_limit: Positive


def reconstruction_nll(
    image: Tensor,
    reconstruction: Tensor,
    perceptual: Tensor | None,
    logvar: Tensor,
    *,
    perceptual_weight: float,
    l1_weight: float = 1.0,
    l2_weight: float = 0.0,
) -> Tensor:
    """The negative log likelihood of images (B, C, H, W): sum over pixels and channels / B; scalar.

    Each pixel and channel costs r / exp(logvar) + logvar, with r = l1_weight |d| + l2_weight d^2
    + perceptual_weight * p. The perceptual distance p (B,) is added to every pixel and channel,
    which is the original's reduction: at 256 px all terms are 196,608 times their mean, and the
    published KL and discriminator weights suppose that. ``logvar`` is one learned scalar.
    """
    difference = image.float() - reconstruction.float()
    elements = math.prod(image.shape[1:])
    cost = difference.new_zeros(len(image))
    if l1_weight:
        cost = cost + l1_weight * difference.abs().flatten(1).sum(1)
    if l2_weight:
        cost = cost + l2_weight * difference.square().flatten(1).sum(1)
    if perceptual is not None and perceptual_weight:
        cost = cost + elements * perceptual_weight * perceptual.float()
    logvar = logvar.float()
    return (cost * torch.exp(-logvar) + elements * logvar).mean()
