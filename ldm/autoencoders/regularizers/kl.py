"""The Gaussian posterior of a variational autoencoder."""

import math

import torch
from torch import Tensor


class KL:
    """A diagonal Gaussian posterior, penalised by its divergence from the standard normal.

    The code is (mean, logvar) on channels, logvar clamped to [-30, 20] (Kingma and Welling 2014;
    the clamp of Rombach et al. 2022). The penalty is in nats per image, a sum over (C, h, w).
    """

    codes_per_latent = 2
    latent_channels = None

    def code(self, raw: Tensor) -> Tensor:
        mean, logvar = raw.chunk(2, dim=1)
        return torch.cat([mean, logvar.clamp(-30.0, 20.0)], dim=1)

    def draw(self, code: Tensor, noise: Tensor) -> Tensor:
        mean, logvar = code.chunk(2, dim=1)
        return mean + (0.5 * logvar).exp() * noise

    def mode(self, code: Tensor) -> Tensor:
        return code.chunk(2, dim=1)[0]

    def decodable(self, latent: Tensor) -> Tensor:
        return latent

    def penalty(self, code: Tensor) -> Tensor:
        mean, logvar = code.float().chunk(2, dim=1)
        # expm1 keeps digits near the prior, where exp(logvar) - 1 - logvar cancels.
        terms = 0.5 * (mean.square() + torch.expm1(logvar) - logvar)
        return terms.sum(dim=(1, 2, 3))

    def weight(self, *, kl: float, elements: int) -> float:
        return kl  # both are sums per image

    def measures(self, code: Tensor) -> dict[str, Tensor]:
        """The divergence in nats per latent dimension, and the posterior's mean spread."""
        dimensions = math.prod(code.shape[1:]) / self.codes_per_latent
        sigma = (0.5 * code.chunk(2, dim=1)[1]).exp()
        return {
            "kl_per_dimension": self.penalty(code) / dimensions,
            "posterior_sigma": sigma.flatten(1).mean(1),
        }

    def counts(self, code: Tensor) -> None:
        return None
