"""The patch discriminator of Isola et al. 2017, as VQGAN uses it."""

from typing import Literal

from torch import Tensor, nn

from ldm.nn.batch_norm import GlobalBatchNorm2d
from ldm.ranges import Count

_MAX_GROUPS = 32


class PatchGAN(nn.Module):
    """A map of logits, one per overlapping patch: (B, in_channels, H, W) -> (B, 1, h, w).

    ``num_layers`` convolutions of stride 2, then two of stride 1; at 3 layers a patch is 70 px
    wide and H = 256 gives h = 30. norm="group" (32 groups, or the largest number that divides the
    channels) works at batch size 1 and does not depend on how a batch is split; "batch" is the
    original, with the statistics of all ranks together. Both have the same parameters: 2,765,633
    for (3, 64, 3). Convolution weights start as N(0, 0.02), norm weights as N(1, 0.02).
    ValueError for images too small for one patch.
    """

    def __init__(
        self,
        *,
        in_channels: Count,
        width: Count,
        num_layers: Count,
        norm: Literal["group", "batch"],
    ) -> None:
        super().__init__()
        if norm not in ("group", "batch"):
            raise ValueError(f"norm={norm!r} is not known to PatchGAN; use 'group' or 'batch'.")
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers} is too small for PatchGAN; use 1 or more.")
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        channels = width
        for depth in range(1, num_layers + 1):
            out_channels = width * min(2**depth, 8)
            stride = 2 if depth < num_layers else 1
            layers += [
                # The norm's shift makes a bias superfluous.
                nn.Conv2d(channels, out_channels, 4, stride=stride, padding=1, bias=False),
                _norm(norm, out_channels),
                nn.LeakyReLU(0.2),
            ]
            channels = out_channels
        layers.append(nn.Conv2d(channels, 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        self.smallest_px = 3 * 2**num_layers  # each of the two stride-1 convolutions takes a pixel
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.GroupNorm | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        if min(images.shape[-2:]) < self.smallest_px:
            raise ValueError(
                f"Images of {images.shape[-2]} x {images.shape[-1]} px are too small for the "
                f"discriminator, which needs {self.smallest_px} px. Lower its num_layers."
            )
        return self.layers(images)


def _norm(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return GlobalBatchNorm2d(channels)
    groups = max(n for n in range(1, _MAX_GROUPS + 1) if channels % n == 0)
    return nn.GroupNorm(groups, channels)
