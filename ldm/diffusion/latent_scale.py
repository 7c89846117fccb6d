"""The affine map between raw latents and the unit-variance latents that are denoised."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LatentScale(nn.Module):
    """Per-channel standardisation: raw latents (B, C, h, w) <-> mean 0, std 1 per channel.

    A single std with mean 0 is Stable Diffusion's scalar mode (scaling factor 1 / std).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def normalize(self, raw: Tensor) -> Tensor:
        """Raw latents to the space of diffusion."""
        return (raw - self.mean) / self.std

    def denormalize(self, latent: Tensor) -> Tensor:
        """The space of diffusion back to raw latents."""
        return latent * self.std + self.mean
