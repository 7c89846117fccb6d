"""VGG16's convolutional trunk (Simonyan and Zisserman 2015), frozen, torchvision's names."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from ldm import weights

CHANNELS = (64, 128, 256, 512, 512)  # of the five features below
_CONVOLUTIONS = (2, 2, 3, 3, 3)  # per block; a 2x2 max pool stands between blocks


class VGG16(nn.Module):
    """VGG16's features after relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.

    Input (B, 3, H, W), normalised by the caller, H and W at least 16. Parameter names are
    torchvision's (``features.0.weight`` ... ``features.28.bias``), so its file loads as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        taps: list[int] = []
        in_channels = 3
        for channels, convolutions in zip(CHANNELS, _CONVOLUTIONS, strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
                in_channels = channels
            taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self._taps = frozenset(taps)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: the network is frozen."""
        return super().train(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._taps:
                found.append(x)
        return found  # 5 of (B, C_i, H / 2^i, W / 2^i)


def read_vgg16(path: str | Path) -> VGG16:
    """VGG16 with the weights of a torchvision file; its classifier is ignored.

    ValueError naming the file if a layer is missing or has another shape.
    """
    state = {k: v for k, v in weights.load_state_dict(path).items() if k.startswith("features.")}
    with torch.device("meta"):  # nothing is drawn
        network = VGG16()
    network.to_empty(device="cpu")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{path} is not torchvision's VGG16 (without batch norm): {error}"
        ) from error
    return network
