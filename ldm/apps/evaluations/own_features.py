"""CLIP score and Frechet distance in the features of the model's own CLIP towers."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.apps.evaluations.subject import BLOCK, Found, Subject
from ldm.features.clip_image import ClipImageFeatures
from ldm.metrics.clip_score import ClipScore
from ldm.metrics.frechet import FrechetDistance


def clip_score_own(subject: Subject) -> Found:
    """The mean cosine of pictures and their prompts, and of the real pairs beside it."""
    if not any(subject.prompts):
        print("clip_score_own: left out, the pictures have no captions")
        return
    features = _image_features(subject, normalize=True)

    def encode_text(captions: list[str]) -> Tensor:
        with torch.no_grad():
            ids = subject.towers.tokenize(captions)
            return F.normalize(subject.towers.model.encode_text(ids), dim=-1)

    def score(images: Tensor, captions: list[str]) -> float:
        metric = ClipScore(features, encode_text)
        for start in range(0, len(images), BLOCK):
            metric.update(images[start : start + BLOCK], captions[start : start + BLOCK])
        return float(metric.compute())

    protocol = features.protocol | {"scale": "raw mean cosine"}
    made = score(subject.images, subject.prompts)
    yield "clip_score_own", made, subject.generated_protocol | protocol
    real = score(subject.real, subject.held_out.captions[: len(subject.real)])
    yield "clip_score_own.real", real, subject.real_protocol | protocol


def fd_own(subject: Subject) -> Found:
    """The Frechet distance of generated to held-out pictures in the own image tower's features."""
    features = _image_features(subject, normalize=False)
    metric = FrechetDistance(features, features.num_features)
    for images in subject.images.split(BLOCK):
        metric.update(images, real=False)
    for images in subject.real.split(BLOCK):
        metric.update(images, real=True)
    yield "fd_own", float(metric.compute()), subject.compared_protocol | features.protocol


def _image_features(subject: Subject, *, normalize: bool) -> ClipImageFeatures:
    return ClipImageFeatures(
        copy.deepcopy(subject.towers.model),
        size_px=subject.towers.config["vision_cfg"]["image_size"],
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        normalize=normalize,
    )
