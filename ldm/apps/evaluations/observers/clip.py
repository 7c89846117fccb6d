"""Pictures and their captions in the joint space of a CLIP, for the CLIP score."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ldm import weights
from ldm.apps.evaluations.measure import Block, Setting
from ldm.apps.evaluations.observers.exact import exact
from ldm.apps.evaluations.observers.features import FeaturesObserver
from ldm.features.prepared import PreparedFeatures
from ldm.interop.clip_pair import ACTIVATIONS, BESIDE, ClipPair, read_clip_pair
from ldm.interop.transformers import WEIGHTS
from ldm.manifest import fingerprint
from ldm.metrics.notes import Rows
from ldm.text.clip import WEIGHTS_FILE, ClipTowers
from ldm.weights.finding import sha256_of


class ClipObserver:
    """Notes "image" and "text" (B, E), of length 1, and "truncated" (B,): captions that lost words.

    ``image`` maps images in [-1, 1] to embeddings. Captions that are too long keep the end token,
    at which the text tower is read.
    """

    def __init__(
        self, name: str, image: nn.Module, towers: ClipTowers, protocol: dict[str, Any]
    ) -> None:
        self.name, self.image = name, image
        self.towers = towers.requires_grad_(False).eval()
        self.protocol = protocol | {
            "towers": _in_words(towers.config),
            "features_hash": weights.hash_tensors(towers.model.state_dict()),
            "activation": ACTIVATIONS[towers.config["quick_gelu"]],
            "settings_hash": fingerprint(towers.config),
            "context_length": towers.tokenize.context_length,
        }

    @exact()
    def __call__(self, block: Block) -> Rows:
        device, captions = block.images.device, list(block.captions)
        image = self.image.to(device)(block.images)
        ids = self.towers.tokenize(captions).to(device)
        with torch.autocast(device.type, enabled=False):
            text = self.towers.to(device).model.encode_text(ids)
        truncated = [self.towers.tokenize.is_truncated(caption) for caption in captions]
        return {
            "image": functional.normalize(image, dim=-1).cpu(),
            "text": functional.normalize(text, dim=-1).cpu(),
            "truncated": torch.tensor(truncated),
        }


def clip(
    setting: Setting, *, file: str, model: str | None = None, activation: str | None = None
) -> ClipObserver:
    """The observer of a published pair, whose weights are ``file``.

    ``file`` is a name that `ldm weights list` shows, a folder in weights_dir as transformers or
    open_clip write it, or a file there; ``model`` and ``activation`` are as in ``read_clip_pair``.
    ValueError for what lacks.
    """
    found = _find(setting, file)
    pair = _read(found, model, activation, _beside(found))
    image = _image(pair, found)
    return ClipObserver("clip", image, pair.towers, image.protocol)


def clip_image(
    setting: Setting, *, file: str, model: str | None = None, activation: str | None = None
) -> FeaturesObserver:
    """The observer of such a pair's image tower alone, whose embeddings are features."""
    found = _find(setting, file)
    pair = _read(found, model, activation, _beside(found))
    return FeaturesObserver("clip_image", _image(pair, found), of_image_tower(pair.towers))


def of_image_tower(towers: ClipTowers) -> dict[str, Any]:
    """What a record says of an image tower: weights, and what these do not tell, such as heads."""
    settings = {name: value for name, value in towers.config.items() if name != "text_cfg"}
    return {
        "features_hash": weights.hash_tensors(towers.model.visual.state_dict()),
        "activation": ACTIVATIONS[towers.config["quick_gelu"]],
        "settings_hash": fingerprint(settings),
    }


def _in_words(config: Mapping[str, Any]) -> str:
    """The towers' sizes, by which a reader knows the model."""
    image, text = (
        f"{part} {tower['layers']} layers of {tower['width']}"
        for part, tower in (("image", config["vision_cfg"]), ("text", config["text_cfg"]))
    )
    return f"{image}, {text}, joint width {config['embed_dim']}"


def _find(setting: Setting, file: str) -> weights.FoundFile:
    folder = Path(setting.weights_dir).expanduser() / file
    there = [f"{file}/{name}" for name in (WEIGHTS_FILE, WEIGHTS) if (folder / name).is_file()]
    file = there[0] if there else file
    return weights.find(file, setting.weights_dir, allow_unknown=setting.allow_unknown_weights)


def _beside(found: weights.FoundFile) -> tuple[str, ...]:
    """The checksums of what says how the weights are to be read."""
    files = (found.path.parent / name for name in BESIDE)
    return tuple(sha256_of(file) if file.is_file() else "" for file in files)


@lru_cache(maxsize=1)
def _read(
    found: weights.FoundFile, model: str | None, activation: str | None, beside: tuple[str, ...]
) -> ClipPair:
    """The pair; ``beside`` tells it from the one that the same weights were before."""
    return read_clip_pair(found.path, model=model, activation=activation)


def _image(pair: ClipPair, found: weights.FoundFile) -> PreparedFeatures:
    visual = pair.towers.model.visual
    assert isinstance(visual, nn.Module)
    return PreparedFeatures(
        visual,
        pair.preprocessing,
        num_features=pair.towers.config["embed_dim"],
        protocol={"features": "clip", **found.protocol},
    )
