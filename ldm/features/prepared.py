"""A pretrained network together with what its pictures go through before it sees them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from ldm.features.quantise import to_uint8
from ldm.features.resize import Size, pillow
from ldm.features.rgb import as_rgb

SHAPES = {  # what becomes of pictures that have another shape than the network
    "squash": "each side by itself",
    "crop": "shorter side, then the centre; odd margins rounded down, as in transformers",
    "crop_even": "shorter side, then the centre; odd margins rounded to even, as in open_clip",
}


@dataclass(frozen=True)
class Preprocessing:
    """From images (B, 3 or 1, H, W) in [-1, 1] to what a network sees, (B, 3, *size) float32.

    Images are rounded to 8 bits, resized by Pillow's kernel ``interpolation``, and normalised by
    ``mean`` and ``std``, which apply to pixels in [0, 1]. ``shape`` is one of SHAPES. Pillow works
    on the CPU; the result is on the device of the images.
    """

    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    shape: str

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record must say of it."""
        return {
            "resize": {
                "kernel": f"{self.interpolation}, Pillow on 8 bits",
                "antialias": self.interpolation != "nearest",
                "size_px": list(self.size),
                "shape": SHAPES[self.shape],
            },
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def __call__(self, images: Tensor) -> Tensor:
        levels = to_uint8(as_rgb(images))
        resized = pillow(levels, self._before_crop(levels), self.interpolation)
        (top, left), (height, width) = self._corner(resized), self.size
        pixels = resized[..., top : top + height, left : left + width].float() / 255.0
        mean, std = (pixels.new_tensor(value).view(3, 1, 1) for value in (self.mean, self.std))
        return (pixels - mean) / std

    def _before_crop(self, levels: Tensor) -> Size:
        if self.shape == "squash":
            return self.size
        height, width = levels.shape[-2:]
        shorter, target = min(height, width), max(self.size)  # both are square where one crops
        return int(target * height / shorter), int(target * width / shorter)

    def _corner(self, resized: Tensor) -> tuple[int, int]:
        margins = (resized.shape[-2] - self.size[0], resized.shape[-1] - self.size[1])
        if self.shape == "crop_even":
            return round(margins[0] / 2), round(margins[1] / 2)  # Python rounds halves to even
        return margins[0] // 2, margins[1] // 2


class PreparedFeatures(nn.Module):
    """Features of a frozen network: images (B, 3 or 1, H, W) in [-1, 1] -> (B, num_features).

    Computed in float32 even under autocast. ``protocol`` says which network it is and what
    happens to its pictures.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        *,
        num_features: int,
        protocol: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.preprocessing, self.num_features = preprocessing, num_features
        self.protocol: dict[str, Any] = {**protocol, **preprocessing.protocol}

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: the network is frozen."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            found: Tensor = self.network(self.preprocessing(images))
        return found
