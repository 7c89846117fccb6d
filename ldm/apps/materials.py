"""The bill of materials of a run: which networks of others it learned by, for its manifest."""

from typing import Any

from omegaconf import DictConfig

from ldm import weights
from ldm.weights import TABLE


def materials(config: DictConfig) -> dict[str, dict[str, Any]]:
    """File, checksum, licence and role of each pretrained network in training, by its name.

    The model's own beginnings (init=, frozen text towers) are not among them: they are inputs.
    """
    if config.get("perceptual") != "lpips" or config.loss.perceptual == 0.0:
        return {}
    found, vgg = weights.find("vgg16", config.weights_dir), TABLE["vgg16"]
    return {
        "vgg16": {
            "file": found.path.name,
            "sha256": found.sha256,
            "licence": vgg.licence,
            "trained_on": vgg.trained_on,
            "role": "training: LPIPS, the perceptual distance of perceptual=lpips",
        }
    }
