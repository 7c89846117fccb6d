"""Which files of others a training run learns by itself, as its configuration says."""

import importlib.util
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm import weights
from ldm.losses.lpips import HEADS_SHA256
from ldm.manifest import file_hash
from ldm.weights import TABLE

_LPIPS = "training: LPIPS, the perceptual distance of perceptual=lpips"
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def uses_lpips(config: DictConfig) -> bool:
    """Whether an autoencoder's loss looks through a network of others."""
    return config.get("perceptual") == "lpips" and config.loss.perceptual > 0.0


def learned_by(config: DictConfig) -> dict[str, dict[str, Any]]:
    """File, checksum, licence and role of each pretrained network in the loss, by its name.

    The model's own beginnings (init=, frozen text towers) are not among them: they are inputs.
    """
    if not uses_lpips(config):
        return {}
    found, vgg = weights.find("vgg16", config.weights_dir), TABLE["vgg16"]
    return {
        "vgg16": {
            "file": found.path.name,
            "sha256": found.sha256,
            "licence": vgg.licence,
            "trained_on": vgg.trained_on,
            "role": _LPIPS,
        },
        "lpips_heads": {
            "file": "vgg.pth of LPIPS 0.1",
            "sha256": HEADS_SHA256,
            "licence": "BSD-2-Clause",
            "trained_on": "judgements of people (BAPPS)",
            "role": _LPIPS,
        },
    }


def vocabulary() -> dict[str, Any]:
    """The one thing that text towers borrow: CLIP's rules for pairs of bytes, no weights."""
    spec = importlib.util.find_spec("open_clip")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    files = [path for folder in folders if (path := Path(folder) / _VOCABULARY).is_file()]
    return {
        "name": "clip_vocabulary",
        "file": _VOCABULARY,
        "sha256": file_hash(files[0]) if files else None,
        "licence": "MIT",
        "trained_on": "texts from the web (OpenAI), not published",
        "role": "tokenizer: how words become numbers, no network weights",
    }
