"""Features of the Inception by which Frechet, kernel and Inception scores are defined.

The network is that of ``inception_network``, its file comes from ``weights_dir``.
"""

from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from ldm import weights
from ldm.features.inception_network import SIZE_PX, InceptionNetwork
from ldm.features.quantise import to_uint8
from ldm.features.resize import kernel
from ldm.features.rgb import as_rgb

Layer = Literal[64, 192, 768, 2048]
WIDTHS = get_args(Layer)


class InceptionFeatures(nn.Module):
    """Features of one layer: images (B, 3 or 1, H, W) in [-1, 1] -> (B, layer).

    ``layer`` is called by its width. Images are clipped and rounded to 8 bits, then resized to
    299 px by the kernel that ``resize`` names. Computed in float32 even under autocast. ValueError
    for a layer or a kernel that does not exist.
    """

    def __init__(self, network: InceptionNetwork, *, layer: int, resize: str) -> None:
        super().__init__()
        if layer not in WIDTHS:
            raise ValueError(f"layer={layer!r} is unknown; choose one of {WIDTHS}.")
        self.network, self.num_features = network, layer
        self.kernel = kernel(resize)
        self._hash = weights.hash_tensors(network.state_dict())

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: the network is frozen."""
        return super().train(False)

    @property
    def protocol(self) -> dict[str, Any]:
        """What a metric's record must say about these features."""
        return {
            "features": "inception",
            "layer": self.num_features,
            "features_hash": self._hash,
            "resize": self.kernel.protocol((SIZE_PX, SIZE_PX)),
            "quantisation": "8 bit, rounded",
        }

    def forward(self, images: Tensor) -> Tensor:
        layer = str(self.num_features)
        return self.layers(images, layer)[layer]

    def layers(self, images: Tensor, *layers: str) -> dict[str, Tensor]:
        """Features of layers by the names that the network knows them by."""
        with torch.autocast(images.device.type, enabled=False):
            levels = to_uint8(as_rgb(images)).float()
            resized = self.kernel.resize(levels, (SIZE_PX, SIZE_PX))
            found = self.network((resized - self.kernel.zero) / self.kernel.one, layers)
        return dict(found)


def read_inception(path: str | Path) -> InceptionNetwork:
    """The Inception with the weights of torch-fidelity's file, read without running code from it.

    ValueError naming the file if it holds another network.
    """
    with torch.device("meta"):
        network = InceptionNetwork()
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.load_state_dict(path).items()
    }
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{path} is not the FID Inception of torch-fidelity: {error}") from error
    return network.requires_grad_(False)
