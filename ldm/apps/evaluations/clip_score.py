"""The CLIP score (Hessel et al. 2021) by the model's own CLIP towers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.apps.evaluations.own_towers import image_features, own_towers
from ldm.apps.evaluations.subject import BLOCK, Found, Subject
from ldm.metrics.clip_score import ClipScore


def clip_score_own(subject: Subject) -> Found:
    """The mean cosine of pictures and their prompts, and of the real pairs beside it."""
    if not any(subject.prompts):
        print("clip_score_own: left out, the pictures have no captions")
        return iter(())
    towers = own_towers(subject.model.text_encoder)
    features = image_features(towers, normalize=True)

    def encode_text(captions: list[str]) -> Tensor:
        with torch.no_grad():
            ids = towers.tokenize(captions)
            return F.normalize(towers.model.encode_text(ids), dim=-1)

    def score(images: Tensor, captions: list[str]) -> float:
        metric = ClipScore(features, encode_text)
        for start in range(0, len(images), BLOCK):
            metric.update(images[start : start + BLOCK], captions[start : start + BLOCK])
        return float(metric.compute())

    def numbers() -> Found:
        protocol = features.protocol | {"scale": "raw mean cosine"}
        made = score(subject.images, subject.prompts)
        yield "clip_score_own", made, subject.generated_protocol | protocol
        real = score(subject.real, list(subject.held_out.first_captions(len(subject.real))))
        yield "clip_score_own.real", real, subject.real_protocol | protocol

    return numbers()
