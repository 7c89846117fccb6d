"""The CLIP score (Hessel et al. 2021) by the model's own CLIP towers."""

from collections.abc import Iterator

import torch.nn.functional as F

from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import (
    REFERENCE,
    SAMPLES,
    Block,
    Measure,
    Noted,
    Number,
    Setting,
)
from ldm.apps.evaluations.own_towers import image_features
from ldm.metrics.notes import Rows
from ldm.text.clip import ClipTowers


class OwnPairs:
    """Notes the embeddings of each picture and its caption, of length 1."""

    name = "own_pairs"

    def __init__(self, towers: ClipTowers) -> None:
        self._towers, self._image = towers, image_features(towers, normalize=True)
        self.protocol = self._image.protocol | {"scale": "raw mean cosine"}

    def __call__(self, block: Block) -> Rows:
        device = block.images.device
        ids = self._towers.tokenize(list(block.captions)).to(device)
        text = F.normalize(self._towers.model.to(device).encode_text(ids), dim=-1)
        return {"image": self._image.to(device)(block.images).float(), "text": text.float()}


def clip_score_own(setting: Setting) -> Measure:
    """The mean cosine of pictures and their prompts, and of the real pairs beside it."""
    try:
        setting.captions(SAMPLES)
    except UserError:
        print("clip_score_own: left out, the pictures have no captions")
        return Measure({}, lambda noted: iter(()))
    observer = OwnPairs(setting.towers())

    def numbers(noted: Noted) -> Iterator[Number]:
        for name, pictures in (("clip_score_own", SAMPLES), ("clip_score_own.real", REFERENCE)):
            notes = noted(pictures, observer)
            pairs = zip(notes.blocks("image"), notes.blocks("text"), strict=True)
            total = 0.0
            for image, text in pairs:
                cosines = (F.normalize(image, dim=-1) * F.normalize(text, dim=-1)).sum(-1)
                total += float(cosines.double().sum())
            yield Number(name, total / notes.count, noted.protocol(pictures) | observer.protocol)

    return Measure({SAMPLES: [observer], REFERENCE: [observer]}, numbers)
