"""Attention and transformer blocks as the Stable Diffusion networks use them (diffusers' names)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _attend(
    query: Tensor, key: Tensor, value: Tensor, *, heads: int, mask: Tensor | None
) -> Tensor:
    """query (B, N, D), key and value (B, L, D), in so many heads, mask (B, L) -> (B, N, D)."""
    query, key, value = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, N or L, D / heads)
        for part in (query, key, value)
    )
    mask = None if mask is None else mask[:, None, None, :]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head attention: queries (B, N, D), context (B, L, E) -> (B, N, D).

    Without a context it attends to itself. ``mask`` (B, L) bool, True = may be attended to.
    """

    def __init__(
        self, dim: int, *, context_dim: int | None, heads: int, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide {dim} channels; choose a divisor.")
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=qkv_bias)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=qkv_bias)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=qkv_bias)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        context = x if context is None else context
        parts = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.to_out[0](_attend(*parts, heads=self.heads, mask=mask))


class SpatialAttention(nn.Module):
    """Self-attention over positions with a residual: (B, C, h, w) -> (B, C, h, w).

    In the autoencoder's middle with one head (Esser et al. 2021), in unconditional denoisers with
    more (Dhariwal and Nichol 2021).
    """

    def __init__(self, channels: int, *, groups: int, eps: float, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.group_norm = nn.GroupNorm(groups, channels, eps=eps)
        attention = Attention(channels, context_dim=None, heads=heads, qkv_bias=True)
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out = attention.to_out

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, h*w, C)
        parts = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        out = _attend(*parts, heads=self.heads, mask=None)
        return x + self.to_out[0](out).transpose(1, 2).unflatten(2, x.shape[2:])


class AttentionPooling(nn.Module):
    """Tokens (B, L, D) to one vector (B, D): their mean, asking them and itself (DeepFloyd IF).

    ``mask`` (B, L) bool, True = counts.
    """

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        attention = Attention(dim, context_dim=None, heads=heads, qkv_bias=True)
        self.positional_embedding = nn.Parameter(torch.randn(1, dim) / dim**0.5)
        self.q_proj, self.k_proj, self.v_proj = attention.to_q, attention.to_k, attention.to_v
        self.heads = heads

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        counts = tokens.new_ones(tokens.shape[:2]) if mask is None else mask.to(tokens.dtype)
        mean = (tokens * counts[..., None]).sum(1, keepdim=True) / counts.sum(1)[:, None, None]
        asking = mean + self.positional_embedding.to(tokens.dtype)  # (B, 1, D)
        context = torch.cat([asking, tokens], dim=1)  # (B, 1 + L, D)
        mask = None if mask is None else F.pad(mask, (1, 0), value=True)
        parts = self.q_proj(asking), self.k_proj(context), self.v_proj(context)
        return _attend(*parts, heads=self.heads, mask=mask)[:, 0]  # (B, D)


class GEGLU(nn.Module):
    """Gated linear unit with an exact GELU gate (Shazeer 2020): (..., D) -> (..., out)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * out_dim)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """The transformer's gated feed-forward of width 4 D: (..., D) -> (..., D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # Index 1 is diffusers' (parameter-free) dropout; it keeps the names net.0 and net.2.
        self.net = nn.ModuleList([GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention, cross-attention, feed-forward: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, *, context_dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, context_dim=None, heads=heads)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, context_dim=context_dim, heads=heads)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context, mask)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map: (B, C, h, w) -> (B, C, h, w).

    The output projection starts at zero (Rombach et al. 2022). ``linear_projection`` projects by
    linear layers (SD 2, SDXL), else by 1x1 convolutions (SD 1).
    """

    def __init__(
        self,
        channels: int,
        *,
        context_dim: int,
        heads: int,
        depth: int,
        groups: int,
        linear_projection: bool,
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.linear_projection = linear_projection
        self.proj_in: nn.Module
        self.proj_out: nn.Module
        if linear_projection:
            self.proj_in, self.proj_out = (nn.Linear(channels, channels) for _ in range(2))
        else:
            self.proj_in, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(2))
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, context_dim=context_dim, heads=heads) for _ in range(depth)
        )
        for parameter in self.proj_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None = None) -> Tensor:
        h = self.norm(x)
        if not self.linear_projection:
            h = self.proj_in(h)
        h = h.flatten(2).transpose(1, 2)  # (B, h*w, C)
        if self.linear_projection:
            h = self.proj_in(h)
        for block in self.transformer_blocks:
            h = block(h, context, mask)
        if self.linear_projection:
            h = self.proj_out(h)
        h = h.transpose(1, 2).unflatten(2, x.shape[2:])  # (B, C, h, w)
        if not self.linear_projection:
            h = self.proj_out(h)
        return x + h
