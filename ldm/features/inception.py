"""The Inception of the Frechet Inception distance: 2,048 features, as torch-fidelity computes them.

The network of Szegedy et al. 2015 with TensorFlow's 2015-12-05 weights and its bilinear resize
without antialiasing (Heusel et al. 2017). torch-fidelity supplies the layers, the file comes
from ``weights_dir``.
"""

import io
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ldm import weights
from ldm.features.quantise import to_uint8
from ldm.features.rgb import as_rgb


class InceptionFeatures(nn.Module):
    """The pooled features before the classifier: images (B, 3, H, W) in [-1, 1] -> (B, 2048).

    Images are clipped and rounded to 8 bits, then resized to 299 px by the network itself.
    """

    num_features = 2048

    def __init__(self, network: nn.Module, weights_hash: str) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self._weights_hash = weights_hash

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: the network is frozen."""
        return super().train(False)

    @property
    def protocol(self) -> dict[str, Any]:
        """What a metric's record must say about these features."""
        return {
            "features": "inception",
            "features_hash": self._weights_hash,
            "resize": "bilinear 299 px, TensorFlow 1 corners, antialias off",
            "quantisation": "8 bit, rounded",
        }

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            (features,) = self.network(to_uint8(as_rgb(images)))
        return features.float()


def read_inception(path: str | Path) -> InceptionFeatures:
    """The FID Inception with the weights of a local file, read without running code from it.

    ValueError if torch-fidelity is not installed or the file does not fit.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ValueError(
            "The Inception features need torch-fidelity: pip install 'ldm[fid]', "
            "or measure with the features of the own image tower (fd_own)."
        ) from error
    state = weights.load_state_dict(path)
    # torch-fidelity unpickles what it is given without protection. It is therefore given our own
    # copy, written in memory from tensors that were read safely.
    copy = io.BytesIO()
    torch.save(state, copy)
    copy.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048"], copy)
    except RuntimeError as error:
        raise ValueError(f"{path} is not the FID Inception of torch-fidelity: {error}") from error
    return InceptionFeatures(network, weights.hash_tensors(state))


def pretrained_inception(weights_dir: str | Path | None) -> InceptionFeatures:
    """The FID Inception from ``weights_dir``; ValueError naming the file if it is missing."""
    return read_inception(weights.find("inception_fid", weights_dir).path)
