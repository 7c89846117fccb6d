"""Residual blocks and resampling as the Stable Diffusion networks use them (diffusers' names)."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class ResnetBlock(nn.Module):
    """GroupNorm, SiLU, conv twice around a skip: (B, in, h, w) -> (B, out, h, w).

    With ``time_dim`` an embedding (B, time_dim) is projected and added per channel between the
    convolutions, or with ``adaptive_norm`` scales and shifts the second norm (AdaGN, Dhariwal and
    Nichol 2021). ``resample`` halves or doubles h and w on the branch and on the skip.
    ``zero_init`` starts the block as the identity (Ho et al. 2020); the autoencoder does not use
    it (Rombach et al. 2022).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time_dim: int | None,
        groups: int,
        eps: float,
        zero_init: bool,
        adaptive_norm: bool = False,
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.adaptive_norm, self.resample = adaptive_norm, resample
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if time_dim is not None:
            self.time_emb_proj = nn.Linear(time_dim, out_channels * (2 if adaptive_norm else 1))
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)
        self.changes_channels = in_channels != out_channels
        if zero_init:
            nn.init.zeros_(self.conv2.weight)
            nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = F.silu(self.norm1(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv1(h)
        told = None if time is None else self.time_emb_proj(F.silu(time))[:, :, None, None]
        if told is not None and not self.adaptive_norm:
            h = h + told
        h = self.norm2(h)
        if told is not None and self.adaptive_norm:
            scale, shift = told.chunk(2, dim=1)
            h = h * (1.0 + scale) + shift
        h = self.conv2(F.silu(h))
        return h + (self.conv_shortcut(x) if self.changes_channels else x)


def halve(x: Tensor) -> Tensor:
    """The mean of 2 x 2 positions: (B, C, h, w) -> (B, C, h/2, w/2)."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Every position four times: (B, C, h, w) -> (B, C, 2h, 2w)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Downsample(nn.Module):
    """Strided convolution: (B, C, h, w) -> (B, C, h/2, w/2).

    ``asymmetric`` pads right and bottom only, as the autoencoder does; the UNet pads all sides.
    """

    def __init__(self, channels: int, *, asymmetric: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)
        self.asymmetric = asymmetric

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling and a convolution: (B, C, h, w) -> (B, C, 2h, 2w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(double(x))
