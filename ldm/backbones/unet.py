"""The conditional UNet of latent diffusion (Rombach et al. 2022), under diffusers' names."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.nn.attention import SpatialAttention, SpatialTransformer
from ldm.nn.embedding import Mlp, PooledText, fourier
from ldm.nn.resnet import Downsample, ResnetBlock, Upsample, double, halve
from ldm.ranges import Count, Natural
from ldm.types import Condition

_EPS = 1e-5  # of group norms outside of transformers


class _Level(nn.Module):
    """Residual blocks, each optionally followed by attention, and an optional resampler."""

    def __init__(
        self,
        resnets: Sequence[ResnetBlock],
        attentions: Sequence[nn.Module],
        *,
        downsampler: nn.Module | None = None,
        upsampler: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        self.resnets = nn.ModuleList(resnets)
        if downsampler is not None:
            self.downsamplers = nn.ModuleList([downsampler])
        if upsampler is not None:
            self.upsamplers = nn.ModuleList([upsampler])
        self.has_attention = bool(attentions)
        self.has_downsampler = downsampler is not None
        self.has_upsampler = upsampler is not None

    def block(self, index: int, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The index-th residual block and its attention."""
        x = self.resnets[index](x, time)
        if not self.has_attention:
            return x
        attention = self.attentions[index]
        if isinstance(attention, SpatialAttention):
            return attention(x)
        return attention(x, condition.tokens, condition.mask)

    def resample(self, x: Tensor, time: Tensor) -> Tensor:
        """The level's downsampler or upsampler."""
        resampler = (self.downsamplers if self.has_downsampler else self.upsamplers)[0]
        return resampler(x, time) if isinstance(resampler, ResnetBlock) else resampler(x)


class _Bricks(NamedTuple):
    """What the levels are made of, by the settings of the network."""

    time_dim: int
    channels: Sequence[int]
    attention: Sequence[bool]
    heads: Sequence[int]
    transformer_depth: Sequence[int]
    context_dim: int | None
    linear_projection: bool
    adaptive_norm: bool
    residual_resampling: bool
    groups: int

    def resnet(self, in_: int, out: int) -> ResnetBlock:
        return ResnetBlock(
            in_, out, time_dim=self.time_dim, groups=self.groups, eps=_EPS, zero_init=True,
            adaptive_norm=self.adaptive_norm,
        )  # fmt: skip

    def attend(self, level: int) -> nn.Module:
        channels, heads = self.channels[level], self.heads[level]
        depth = self.transformer_depth[level]
        if depth == 0:
            plain = SpatialAttention(channels, groups=self.groups, eps=_EPS, heads=heads)
            for parameter in plain.to_out.parameters():
                nn.init.zeros_(parameter)
            return plain
        assert self.context_dim is not None
        return SpatialTransformer(
            channels, context_dim=self.context_dim, heads=heads, depth=depth, groups=self.groups,
            linear_projection=self.linear_projection,
        )  # fmt: skip

    def level(self, level: int, inputs: Sequence[int], **resampler: nn.Module | None) -> _Level:
        """A level whose residual blocks take so many channels each."""
        return _Level(
            [self.resnet(in_, self.channels[level]) for in_ in inputs],
            [self.attend(level) for _ in inputs] if self.attention[level] else [],
            **resampler,
        )

    def downsampler(self, channels: int) -> nn.Module:
        if not self.residual_resampling:
            return Downsample(channels, asymmetric=False)
        block = self.resnet(channels, channels)
        block.resample = halve
        return block

    def upsampler(self, channels: int) -> nn.Module:
        if not self.residual_resampling:
            return Upsample(channels)
        block = self.resnet(channels, channels)
        block.resample = double
        return block


class UNet(nn.Module):
    """Noisy latents, noise level and condition to a prediction of the same size.

    x (B, in_channels, h, w), t (B,) in training steps, condition with tokens (B, L, context_dim),
    optionally mask (B, L), vector (B, vector_dim) and image (concatenated to x on channels)
    -> (B, out_channels, h, w). h and w must be divisible by 2^(levels - 1).

    ``attention`` says per level whether residual blocks are followed by attention; the middle
    always has it. ``heads`` counts heads per level, ``transformer_depth`` blocks per transformer,
    where 0 means plain self-attention without the caption (``context_dim`` may then be None); the
    middle takes the last level's. The whole caption can also join the time embedding: as
    ``condition.vector`` (``vector_dim``, SDXL), or pooled from the tokens by attention with
    ``pooling_heads`` (DeepFloyd IF). ``adaptive_norm`` and ``residual_resampling`` are those of
    Dhariwal and Nichol 2021, table 4. Residual outputs start at zero, as in the original.
    ``config`` keeps the constructor's arguments for exports.
    """

    def __init__(
        self,
        *,
        in_channels: Count,
        out_channels: Count,
        channels: Sequence[Count],
        attention: Sequence[bool],
        heads: Sequence[Count],
        transformer_depth: Sequence[Natural],
        layers_per_level: Count,
        context_dim: Count | None,
        vector_dim: Count | None,
        pooling_heads: Count | None,
        linear_projection: bool,
        adaptive_norm: bool,
        residual_resampling: bool,
        groups: Count,
    ) -> None:
        self.config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        _check(self.config)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.base_channels = channels[0]
        self.stride = 2 ** (len(channels) - 1)
        time_dim = 4 * channels[0]

        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.time_embedding = Mlp(channels[0], time_dim)
        self.vector_dim, self.pooling_heads = vector_dim, pooling_heads
        if vector_dim is not None:
            self.add_embedding: nn.Module = Mlp(vector_dim, time_dim)
        elif pooling_heads is not None:
            assert context_dim is not None
            self.add_embedding = PooledText(context_dim, time_dim, heads=pooling_heads)

        bricks = _Bricks(
            time_dim, channels, attention, heads, transformer_depth, context_dim,
            linear_projection, adaptive_norm, residual_resampling, groups,
        )  # fmt: skip
        last = len(channels) - 1
        skips = [width := channels[0]]  # channels of what the way up will find
        self.down_blocks = nn.ModuleList()
        for level, out in enumerate(channels):
            inputs = [width] + [out] * (layers_per_level - 1)
            downsampler = bricks.downsampler(out) if level < last else None
            self.down_blocks.append(bricks.level(level, inputs, downsampler=downsampler))
            skips += [out] * (layers_per_level + (level < last))
            width = out

        middle = [bricks.resnet(width, width) for _ in range(2)]
        self.mid_block = _Level(middle, [bricks.attend(last)])

        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(channels))):
            out = channels[level]
            inputs = [width + skips.pop()] + [out + skips.pop() for _ in range(layers_per_level)]
            upsampler = bricks.upsampler(out) if level > 0 else None
            self.up_blocks.append(bricks.level(level, inputs, upsampler=upsampler))
            width = out

        self.conv_norm_out = nn.GroupNorm(groups, channels[0], eps=_EPS)
        self.conv_out = nn.Conv2d(channels[0], out_channels, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        time = self.time_embedding(fourier(t, self.base_channels).to(x.dtype))
        if self.vector_dim is not None:
            time = time + self.add_embedding(condition.vector)
        elif self.pooling_heads is not None:
            time = time + self.add_embedding(condition.tokens, condition.mask)
        if condition.image is not None:
            x = torch.cat([x, condition.image], dim=1)  # (B, in_channels, h, w)

        x = self.conv_in(x)
        skips = [x]
        for level in self.down_blocks:
            assert isinstance(level, _Level)
            for i in range(len(level.resnets)):
                x = level.block(i, x, time, condition)
                skips.append(x)
            if level.has_downsampler:
                x = level.resample(x, time)  # halves h and w
                skips.append(x)

        x = self.mid_block.block(0, x, time, condition)
        x = self.mid_block.resnets[1](x, time)

        for level in self.up_blocks:
            assert isinstance(level, _Level)
            for i in range(len(level.resnets)):
                x = level.block(i, torch.cat([x, skips.pop()], dim=1), time, condition)
            if level.has_upsampler:
                x = level.resample(x, time)  # doubles h and w

        return self.conv_out(F.silu(self.conv_norm_out(x)))


def _check(config: dict[str, Any]) -> None:
    """ValueError for settings that no network can have."""
    per_level = ("channels", "attention", "heads", "transformer_depth")
    lengths = {name: len(config[name]) for name in per_level}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"these settings need one entry per level, found {found}.")
    for width in config["channels"]:
        if width % config["groups"]:
            raise ValueError(f"channels {width} is no multiple of groups {config['groups']}.")
    if config["vector_dim"] is not None and config["pooling_heads"] is not None:
        raise ValueError("vector_dim and pooling_heads exclude each other; set one to null.")
    if config["context_dim"] is None:
        if any(config["transformer_depth"]):
            raise ValueError(
                "transformers need a context; without one (context_dim null), set "
                "transformer_depth to 0 at every level."
            )
        if config["pooling_heads"] is not None:
            raise ValueError("pooling_heads pools a caption, and context_dim null has none.")
