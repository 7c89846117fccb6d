"""Embeddings that reach every residual block: noise levels, image sizes, a whole caption."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.nn.attention import AttentionPooling


def fourier(x: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoids of geometrically spaced frequencies, cosines first: (...,) -> (..., dim) float32.

    Vaswani et al. 2017 in the order of Dhariwal and Nichol 2021 (cos then sin, dim / 2 each).
    """
    # The order of operations is the original's: at t = 1000 another rounding is visible.
    exponent = -math.log(max_period) * torch.arange(dim // 2, dtype=torch.float32, device=x.device)
    angles = x.to(torch.float32)[..., None] * torch.exp(exponent / (dim // 2))
    # An odd width ends with a zero.
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, dim % 2))


class Mlp(nn.Module):
    """Linear, SiLU, linear under diffusers' names: (..., in) -> (..., out)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_dim, out_dim)
        self.linear_2 = nn.Linear(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class PooledText(nn.Module):
    """A caption's tokens (B, L, in_dim), pooled, to one embedding (B, out_dim) of unit variance.

    The additional text embedding of DeepFloyd IF, under diffusers' names.
    """

    def __init__(self, in_dim: int, out_dim: int, *, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim)
        self.pool = AttentionPooling(in_dim, heads=heads)
        self.proj = nn.Linear(in_dim, out_dim)
        self.norm2 = nn.LayerNorm(out_dim)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.norm2(self.proj(self.pool(self.norm1(tokens), mask)))
