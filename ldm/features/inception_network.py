"""The Inception of the Frechet Inception distance (Szegedy et al. 2015; Heusel et al. 2017).

It is Inception v3 as TensorFlow published it on 2015-12-05, in which three things differ from what
the paper and torchvision have: average pools do not count the padding, the last block pools by the
maximum, and there are 1,008 classes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE_PX = 299
LAYERS = ("64", "192", "768", "2048", "logits_unbiased")  # by their widths; the logits have 1,008

_Kernel = int | tuple[int, int]
_Chain = Sequence[tuple[int, _Kernel]]  # (channels, kernel) of convolutions in a row

_average = partial(
    functional.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False
)
_maximum = partial(functional.max_pool2d, kernel_size=3, stride=1, padding=1)
_halve = partial(functional.max_pool2d, kernel_size=3, stride=2)


class _Convolution(nn.Module):
    """A convolution without bias, batch normalisation, ReLU; ``padding`` keeps the size."""

    def __init__(
        self, in_channels: int, channels: int, kernel: _Kernel, stride: int, padding: bool
    ) -> None:
        super().__init__()
        height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        around = (height // 2, width // 2) if padding else 0
        self.conv = nn.Conv2d(in_channels, channels, (height, width), stride, around, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """Branches of convolutions side by side, and a pooled one; their channels are joined.

    The last convolution of a branch in ``halving`` has stride 2, that of one in ``forked`` has a
    twin: (1, k) and (k, 1) see the same input. ``pooled`` gives the channels of a convolution
    after the pool, None for the pool alone.
    """

    def __init__(
        self,
        in_channels: int,
        branches: dict[str, _Chain],
        *,
        pool: partial[Tensor],
        pooled: int | None = None,
        halving: Sequence[str] = (),
        forked: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.pool = pool
        self.paths: list[list[list[str]]] = []  # by branch and depth, the layers side by side
        for branch, chain in branches.items():
            path, channels = [], in_channels
            for depth, (width, kernel) in enumerate(chain, start=1):
                name = f"branch{branch}" if len(chain) == 1 else f"branch{branch}_{depth}"
                last = depth == len(chain)
                stride = 2 if last and branch in halving else 1
                layers: dict[str, _Kernel] = {name: kernel}
                if last and branch in forked:
                    assert isinstance(kernel, int)
                    layers = {f"{name}a": (1, kernel), f"{name}b": (kernel, 1)}
                for layer, shape in layers.items():
                    made = _Convolution(channels, width, shape, stride, padding=stride == 1)
                    self.add_module(layer, made)
                path.append(list(layers))
                channels = width
            self.paths.append(path)
        if pooled is not None:
            self.branch_pool = _Convolution(in_channels, pooled, 1, 1, padding=True)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for path in self.paths:
            y = x
            for layers in path:
                y = torch.cat([self.get_submodule(layer)(y) for layer in layers], dim=1)
            found.append(y)
        y = self.pool(x)
        found.append(self.branch_pool(y) if hasattr(self, "branch_pool") else y)
        return torch.cat(found, dim=1)


def _block_35(in_channels: int, pooled: int) -> _Mixed:
    branches: dict[str, _Chain] = {
        "1x1": [(64, 1)],
        "5x5": [(48, 1), (64, 5)],
        "3x3dbl": [(64, 1), (96, 3), (96, 3)],
    }
    return _Mixed(in_channels, branches, pool=_average, pooled=pooled)


def _block_17(width: int) -> _Mixed:
    row, column = (1, 7), (7, 1)
    branches: dict[str, _Chain] = {
        "1x1": [(192, 1)],
        "7x7": [(width, 1), (width, row), (192, column)],
        "7x7dbl": [(width, 1), (width, column), (width, row), (width, column), (192, row)],
    }
    return _Mixed(768, branches, pool=_average, pooled=192)


def _block_8(in_channels: int, pool: partial[Tensor]) -> _Mixed:
    branches: dict[str, _Chain] = {
        "1x1": [(320, 1)],
        "3x3": [(384, 1), (384, 3)],
        "3x3dbl": [(448, 1), (384, 3), (384, 3)],
    }
    return _Mixed(in_channels, branches, pool=pool, pooled=192, forked=("3x3", "3x3dbl"))


def _to_17(in_channels: int) -> _Mixed:
    branches: dict[str, _Chain] = {"3x3": [(384, 3)], "3x3dbl": [(64, 1), (96, 3), (96, 3)]}
    return _Mixed(in_channels, branches, pool=_halve, halving=("3x3", "3x3dbl"))


def _to_8(in_channels: int) -> _Mixed:
    branches: dict[str, _Chain] = {
        "3x3": [(192, 1), (320, 3)],
        "7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)],
    }
    return _Mixed(in_channels, branches, pool=_halve, halving=("3x3", "7x7x3"))


class InceptionNetwork(nn.Module):
    """Prepared images (B, 3, 299, 299), about [-1, 1] -> features of the layers asked for.

    Layers are called by their widths: "64", "192" and "768" are averages over the positions of
    maps, "2048" is what the classifier sees, "logits_unbiased" its 1,008 outputs without the bias.
    Nothing deeper than what is asked for is computed. Frozen and in eval mode; parameter names are
    torch-fidelity's, so its file loads as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, 2, padding=False)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3, 1, padding=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, 1, padding=True)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1, 1, padding=False)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3, 1, padding=False)
        self.Mixed_5b = _block_35(192, pooled=32)
        self.Mixed_5c = _block_35(256, pooled=64)
        self.Mixed_5d = _block_35(288, pooled=64)
        self.Mixed_6a = _to_17(288)
        self.Mixed_6b = _block_17(128)
        self.Mixed_6c = _block_17(160)
        self.Mixed_6d = _block_17(160)
        self.Mixed_6e = _block_17(192)
        self.Mixed_7a = _to_8(768)
        self.Mixed_7b = _block_8(1280, _average)
        self.Mixed_7c = _block_8(2048, _maximum)
        self.fc = nn.Linear(2048, 1008)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: the network is frozen."""
        return super().train(False)

    def forward(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        deepest = max(LAYERS.index(layer) for layer in layers)
        found: dict[str, Tensor] = {}
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = _halve(x)  # (B, 64, 73, 73)
        found["64"] = x.mean((2, 3))
        if deepest >= 1:
            x = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))  # (B, 192, 35, 35)
            found["192"] = x.mean((2, 3))
        if deepest >= 2:
            x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))  # (B, 768, 17, 17)
            x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
            found["768"] = x.mean((2, 3))
        if deepest >= 3:
            x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
            found["2048"] = x.mean((2, 3))
            found["logits_unbiased"] = found["2048"] @ self.fc.weight.T
        return {layer: found[layer] for layer in layers}
