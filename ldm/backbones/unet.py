"""The conditional UNet of Stable Diffusion (Rombach et al. 2022), under diffusers' names."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.nn.attention import SpatialTransformer
from ldm.nn.embedding import Mlp, PooledText, fourier
from ldm.nn.resnet import Downsample, ResnetBlock, Upsample
from ldm.types import Condition


class _Level(nn.Module):
    """Residual blocks, each optionally followed by a transformer, and an optional resampler."""

    def __init__(
        self,
        resnets: Sequence[ResnetBlock],
        attentions: Sequence[SpatialTransformer],
        *,
        downsampler: Downsample | None = None,
        upsampler: Upsample | None = None,
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
        """The index-th residual block and its transformer."""
        x = self.resnets[index](x, time)
        if self.has_attention:
            x = self.attentions[index](x, condition.tokens, condition.mask)
        return x


class UNet(nn.Module):
    """Noisy latents, noise level and condition to a prediction of the same size.

    x (B, in_channels, h, w), t (B,) in training steps, condition with tokens (B, L, context_dim),
    optionally mask (B, L), vector (B, vector_dim) and image (concatenated to x on channels)
    -> (B, out_channels, h, w). h and w must be divisible by 2^(levels - 1).

    The whole caption can also join the time embedding: as ``condition.vector`` (``vector_dim``,
    SDXL), or pooled from the tokens by attention with ``pooling_heads`` (DeepFloyd IF).
    ``attention`` says per level whether residual blocks are followed by transformers; the middle
    always has one. ``heads`` counts heads per level, ``transformer_depth`` blocks per transformer;
    the middle takes the last level's. Residual outputs start at zero, as in the original.
    ``config`` keeps the constructor's arguments for exports.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        attention: Sequence[bool],
        heads: Sequence[int],
        transformer_depth: Sequence[int],
        layers_per_level: int,
        context_dim: int,
        vector_dim: int | None,
        pooling_heads: int | None,
        linear_projection: bool,
        groups: int,
    ) -> None:
        self.config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        lengths = {len(channels), len(attention), len(heads), len(transformer_depth)}
        if len(lengths) != 1:
            raise ValueError(
                "channels, attention, heads and transformer_depth need one entry per level, found "
                f"{len(channels)}, {len(attention)}, {len(heads)} and {len(transformer_depth)}."
            )
        for width in channels:
            if width % groups:
                raise ValueError(f"channels {width} is no multiple of groups {groups}.")
        if vector_dim is not None and pooling_heads is not None:
            raise ValueError("vector_dim and pooling_heads exclude each other; set one to null.")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.base_channels = channels[0]
        self.stride = 2 ** (len(channels) - 1)
        time_dim = 4 * channels[0]

        def resnet(in_: int, out: int) -> ResnetBlock:
            return ResnetBlock(in_, out, time_dim=time_dim, groups=groups, eps=1e-5, zero_init=True)

        def transformer(level: int) -> SpatialTransformer:
            return SpatialTransformer(
                channels[level],
                context_dim=context_dim,
                heads=heads[level],
                depth=transformer_depth[level],
                groups=groups,
                linear_projection=linear_projection,
            )

        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.time_embedding = Mlp(channels[0], time_dim)
        if vector_dim is not None:
            self.add_embedding: nn.Module = Mlp(vector_dim, time_dim)
        elif pooling_heads is not None:
            self.add_embedding = PooledText(context_dim, time_dim, heads=pooling_heads)
        self.vector_dim, self.pooling_heads = vector_dim, pooling_heads

        skips = [channels[0]]
        self.down_blocks = nn.ModuleList()
        last = len(channels) - 1
        width = channels[0]
        for level, out in enumerate(channels):
            resnets = [resnet(width if i == 0 else out, out) for i in range(layers_per_level)]
            width = out
            skips += [out] * layers_per_level + ([out] if level < last else [])
            self.down_blocks.append(
                _Level(
                    resnets,
                    [transformer(level) for _ in resnets] if attention[level] else [],
                    downsampler=Downsample(out, asymmetric=False) if level < last else None,
                )
            )

        self.mid_block = _Level([resnet(width, width) for _ in range(2)], [transformer(last)])

        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(channels))):
            out = channels[level]
            resnets = []
            for _ in range(layers_per_level + 1):
                resnets.append(resnet(width + skips.pop(), out))
                width = out
            self.up_blocks.append(
                _Level(
                    resnets,
                    [transformer(level) for _ in resnets] if attention[level] else [],
                    upsampler=Upsample(out) if level > 0 else None,
                )
            )

        self.conv_norm_out = nn.GroupNorm(groups, channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(channels[0], out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

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
                x = level.downsamplers[0](x)  # halves h and w
                skips.append(x)

        x = self.mid_block.block(0, x, time, condition)
        x = self.mid_block.resnets[1](x, time)

        for level in self.up_blocks:
            assert isinstance(level, _Level)
            for i in range(len(level.resnets)):
                x = level.block(i, torch.cat([x, skips.pop()], dim=1), time, condition)
            if level.has_upsampler:
                x = level.upsamplers[0](x)  # doubles h and w

        return self.conv_out(F.silu(self.conv_norm_out(x)))
