"""A perceptual distance from a network of one's own: no pretrained file needed."""

from typing import Protocol

import torch
from torch import Tensor, nn

from ldm.losses.unit_channels import unit_channels
from ldm.nn.exact import without_autocast


class Layers(Protocol):
    """Anything that gives feature maps of images, such as ``ClipImageFeatures``."""

    def layers(self, images: Tensor) -> list[Tensor]: ...


class OwnPerceptual(nn.Module):
    """The distance of two images: (B, 3 or 1, H, W) twice, in [-1, 1] -> (B,), between 0 and 4.

    The squared difference of the channel-normalised feature vectors, averaged over positions and
    layers: LPIPS without learned heads. float32 even under autocast; ``features`` must be frozen.
    """

    def __init__(self, features: Layers) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        with without_autocast(x.device):
            pairs = zip(self.features.layers(x), self.features.layers(y), strict=True)
            terms = [
                (unit_channels(a.float()) - unit_channels(b.float())).square().sum(1).mean((1, 2))
                for a, b in pairs
            ]
        return torch.stack(terms).mean(0)  # (B,)
