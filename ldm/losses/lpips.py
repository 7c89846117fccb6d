"""LPIPS, the learned perceptual distance of Zhang et al. 2018 (version 0.1, VGG16)."""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ldm import weights
from ldm.features.rgb import as_rgb
from ldm.features.vgg import CHANNELS, read_vgg16
from ldm.losses.unit_channels import unit_channels
from ldm.nn.exact import without_autocast

HEADS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
_HEADS_FILES = {  # package -> where its wheel carries the same file
    "torchmetrics": "functional/image/lpips_models/vgg.pth",
    "lpips": "weights/v0.1/vgg.pth",
}


class LPIPS(nn.Module):
    """The distance of two images: (B, 3 or 1, H, W) twice, in [-1, 1] -> (B,), at least 0.

    ``trunk`` gives the five feature maps of VGG16, ``heads`` weigh their channels: five of
    (1, C, 1, 1). Always in eval mode, nothing trainable, float32 even under autocast; the
    gradient is finite for constant and for identical images. Values beyond [-1, 1], which
    decoders produce, are allowed. ``protocol`` is what a metric's record must say about it.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, trunk: nn.Module, heads: Sequence[Tensor], protocol: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.protocol = {"distance": "LPIPS 0.1 on VGG16", **(protocol or {})}
        self.trunk = trunk
        self.heads = nn.ParameterList(nn.Parameter(head.detach().float()) for head in heads)
        # ImageNet's mean and std, moved from [0, 1] to [-1, 1] and rounded as in the original.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: the network is frozen."""
        return super().train(False)

    def _features(self, images: Tensor) -> list[Tensor]:
        maps = self.trunk((as_rgb(images).float() - self.shift) / self.scale)
        return [unit_channels(map_) for map_ in maps]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        with without_autocast(x.device):
            # Separate passes: the one image that needs no gradient keeps no activations.
            pairs = zip(self.heads, self._features(x), self._features(y), strict=True)
            terms = [((a - b).square() * head).sum(1).mean((1, 2)) for head, a, b in pairs]
        return torch.stack(terms).sum(0)  # (B,)


def read_heads() -> list[Tensor]:
    """The published channel weights for VGG16, read from an installed wheel that carries them.

    ValueError if none does, or the file is not the published one.
    """
    for package, inside in _HEADS_FILES.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder) / inside
            if path.is_file():
                if hashlib.sha256(path.read_bytes()).hexdigest() != HEADS_SHA256:
                    raise ValueError(f"{path} is damaged; reinstall {package}.")
                state = weights.load_state_dict(path)
                heads = [state[f"lin{i}.model.1.weight"] for i in range(len(CHANNELS))]
                assert [head.shape[1] for head in heads] == list(CHANNELS)
                return heads
    raise ValueError("The heads of LPIPS come with torchmetrics: pip install torchmetrics.")


def pretrained_lpips(weights_dir: str | Path | None, *, allow_unknown: bool = False) -> LPIPS:
    """LPIPS with VGG16 from ``weights_dir``; ValueError naming the file if it is missing.

    ``allow_unknown`` takes another file than the published one, which the protocol says.
    """
    found = weights.find("vgg16", weights_dir, allow_unknown=allow_unknown)
    return LPIPS(read_vgg16(found.path), read_heads(), found.protocol)
