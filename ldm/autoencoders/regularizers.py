"""What an autoencoder stores of a picture, how a latent is drawn from it, what it costs."""

from typing import Protocol

import torch
from torch import Tensor


class Regularizer(Protocol):
    """Between the encoder's code (B, S, h, w) and a latent (B, C, h, w)."""

    codes_per_latent: int  # S / C

    def code(self, raw: Tensor) -> Tensor:
        """The code to store, from the encoder's raw output; both (B, S, h, w)."""
        ...

    def draw(self, code: Tensor, noise: Tensor) -> Tensor:
        """A latent (B, C, h, w) from the code and standard normal noise (B, C, h, w)."""
        ...

    def mode(self, code: Tensor) -> Tensor:
        """The most likely latent (B, C, h, w)."""
        ...

    def penalty(self, code: Tensor) -> Tensor:
        """The price of the code in nats per image: (B,) float32."""
        ...


class KL:
    """A diagonal Gaussian posterior, penalised by its divergence from the standard normal.

    The code is (mean, logvar) on channels, logvar clamped to [-30, 20] (Kingma and Welling 2014;
    the clamp of Rombach et al. 2022).
    """

    codes_per_latent = 2

    def code(self, raw: Tensor) -> Tensor:
        mean, logvar = raw.chunk(2, dim=1)
        return torch.cat([mean, logvar.clamp(-30.0, 20.0)], dim=1)

    def draw(self, code: Tensor, noise: Tensor) -> Tensor:
        mean, logvar = code.chunk(2, dim=1)
        return mean + (0.5 * logvar).exp() * noise

    def mode(self, code: Tensor) -> Tensor:
        return code.chunk(2, dim=1)[0]

    def penalty(self, code: Tensor) -> Tensor:
        mean, logvar = code.float().chunk(2, dim=1)
        return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(dim=(1, 2, 3))
