"""The convolutional autoencoder of latent diffusion (Rombach et al. 2022), diffusers' names."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ldm.autoencoders.regularizers import Regularizer
from ldm.nn.attention import SpatialAttention
from ldm.nn.resnet import Downsample, ResnetBlock, Upsample
from ldm.ranges import Count

_EPS = 1e-6


class _Level(nn.Module):
    """Residual blocks, each optionally followed by attention, then an optional resampler."""

    def __init__(
        self,
        widths: Sequence[int],
        *,
        attention: bool,
        groups: int,
        downsample: bool = False,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_resnet(in_, out, groups) for in_, out in pairwise(widths))
        out = widths[-1]
        if attention:
            self.attentions = nn.ModuleList(
                SpatialAttention(out, groups=groups, eps=_EPS) for _ in self.resnets
            )
        if downsample:
            self.downsamplers = nn.ModuleList([Downsample(out, asymmetric=True)])
        if upsample:
            self.upsamplers = nn.ModuleList([Upsample(out)])
        self.attention, self.downsample, self.upsample = attention, downsample, upsample

    def forward(self, x: Tensor) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(x)
            if self.attention:
                x = self.attentions[i](x)
        if self.downsample:
            x = self.downsamplers[0](x)  # halves H and W
        if self.upsample:
            x = self.upsamplers[0](x)  # doubles H and W
        return x


class _Middle(nn.Module):
    """Residual block, attention, residual block at the smallest resolution."""

    def __init__(self, channels: int, *, attention: bool, groups: int) -> None:
        super().__init__()
        if attention:
            self.attentions = nn.ModuleList([SpatialAttention(channels, groups=groups, eps=_EPS)])
        self.resnets = nn.ModuleList(_resnet(channels, channels, groups) for _ in range(2))
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        if self.attention:
            x = self.attentions[0](x)
        return self.resnets[1](x)


def _resnet(in_channels: int, out_channels: int, groups: int) -> ResnetBlock:
    return ResnetBlock(
        in_channels, out_channels, time_dim=None, groups=groups, eps=_EPS, zero_init=False
    )


class _Encoder(nn.Module):
    """Image (B, in_channels, H, W) -> raw code (B, out_channels, H / stride, W / stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        attention: Sequence[bool],
        mid_attention: bool,
        layers: int,
        groups: int,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        widths = [channels[0], *channels]
        last = len(channels) - 1
        self.down_blocks = nn.ModuleList(
            _Level(
                [widths[i]] + [widths[i + 1]] * layers,
                attention=attention[i],
                groups=groups,
                downsample=i < last,
            )
            for i in range(len(channels))
        )
        self.mid_block = _Middle(channels[-1], attention=mid_attention, groups=groups)
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=_EPS)
        self.conv_out = nn.Conv2d(channels[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class _Decoder(nn.Module):
    """Latent (B, in_channels, h, w) -> image (B, out_channels, h * stride, w * stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        attention: Sequence[bool],
        mid_attention: bool,
        layers: int,
        groups: int,
    ) -> None:
        super().__init__()
        top = channels[-1]
        self.conv_in = nn.Conv2d(in_channels, top, 3, padding=1)
        self.mid_block = _Middle(top, attention=mid_attention, groups=groups)
        widths = [top, *reversed(channels)]
        last = len(channels) - 1
        self.up_blocks = nn.ModuleList(
            _Level(
                [widths[i]] + [widths[i + 1]] * (layers + 1),
                attention=attention[last - i],
                groups=groups,
                upsample=i < last,
            )
            for i in range(len(channels))
        )
        self.conv_norm_out = nn.GroupNorm(groups, channels[0], eps=_EPS)
        self.conv_out = nn.Conv2d(channels[0], out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    """Pixels to a code and latents back to pixels.

    ``encode``: image (B, I, H, W) in [-1, 1] -> code (B, S, h, w) with h = H / stride, as the
    regulariser stores it (for KL the mean and the clamped logvar, for VQ what is not yet
    quantised). ``decode``: latent (B, C, h, w) -> image (B, I, H, W), nominally in [-1, 1] but
    unbounded; I is ``image_channels``. H and W must be divisible by ``stride`` = 2^(levels - 1).
    ``attention`` holds one flag per level, shallow to deep.
    ``config`` keeps the constructor's arguments (without the regulariser) for exports, and
    ``force_upcast`` says to them whether decoding in fp16 may overflow: True until it was seen
    not to.
    ``latent_channels`` of a regulariser, where it has its own, are those of the latent; the 1x1
    convolutions on both sides of it lead there and back.
    """

    regularizer: Regularizer

    def __init__(
        self,
        *,
        image_channels: Count,
        latent_channels: Count,
        channels: Sequence[Count],
        attention: Sequence[bool],
        mid_attention: bool,
        layers_per_level: Count,
        groups: Count,
        regularizer: Regularizer,
    ) -> None:
        self.config = {
            name: value
            for name, value in locals().items()
            if name not in ("self", "__class__", "regularizer")
        }
        super().__init__()
        self.force_upcast = True
        if len(attention) != len(channels):
            raise ValueError(
                f"attention needs one entry per level: {len(channels)}, found {len(attention)}."
            )
        for width in channels:
            if width % groups:
                raise ValueError(f"channels {width} is no multiple of groups {groups}.")
        self.latent_channels = regularizer.latent_channels or latent_channels
        self.stride = 2 ** (len(channels) - 1)
        # Past nn.Module: what a regulariser learns is registered once, below, by diffusers' name.
        object.__setattr__(self, "regularizer", regularizer)
        raw, stored = (
            width * regularizer.codes_per_latent
            for width in (latent_channels, self.latent_channels)
        )
        shape = (channels, attention, mid_attention, layers_per_level, groups)
        self.encoder = _Encoder(image_channels, raw, *shape)
        self.decoder = _Decoder(latent_channels, image_channels, *shape)
        self.quant_conv = nn.Conv2d(raw, stored, 1)
        if isinstance(regularizer, nn.Module):
            self.quantize = regularizer
        self.post_quant_conv = nn.Conv2d(self.latent_channels, latent_channels, 1)

    @property
    def last_layer(self) -> Tensor:
        """The weight at which the adaptive GAN weight compares gradients."""
        return self.decoder.conv_out.weight

    def encode(self, image: Tensor) -> Tensor:
        """Image (B, I, H, W) in [-1, 1] -> code (B, S, h, w)."""
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"image size {height}x{width} is not divisible by the autoencoder's total stride "
                f"{self.stride}; resize or crop to a multiple."
            )
        return self.regularizer.code(self.quant_conv(self.encoder(image)))

    def decode(self, latent: Tensor) -> Tensor:
        """Latent (B, C, h, w) -> image (B, I, H, W)."""
        return self.decoder(self.post_quant_conv(self.regularizer.decodable(latent)))

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Image and noise (B, C, h, w) -> (reconstruction through one posterior draw, code)."""
        code = self.encode(image)
        return self.decode(self.regularizer.draw(code, noise)), code
