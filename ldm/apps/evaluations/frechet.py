"""The Frechet distance of samples to the reference, in two feature spaces."""

from collections.abc import Iterator

import torch
from torch import Tensor

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
from ldm.features.clip_image import ClipImageFeatures
from ldm.features.inception import InceptionFeatures, pretrained_inception
from ldm.metrics.frechet import frechet_distance, require_enough
from ldm.metrics.notes import Notes, Rows

Features = InceptionFeatures | ClipImageFeatures


class Observed:
    """Notes the features of each picture."""

    def __init__(self, name: str, features: Features) -> None:
        self.name, self.protocol, self._features = name, features.protocol, features

    def __call__(self, block: Block) -> Rows:
        return {"features": self._features.to(block.images.device)(block.images).float()}


def fid(setting: Setting) -> Measure:
    """In the Inception's features, from a local weights file; named fid_<n> below 10,000."""
    count = setting.count(SAMPLES)
    name = "fid" if count >= 10_000 else f"fid_{count}"
    return _measure(name, "inception", pretrained_inception(setting.weights_dir), setting)


def fd_own(setting: Setting) -> Measure:
    """In the features of the model's own image tower."""
    return _measure("fd_own", "own", image_features(setting.towers(), normalize=False), setting)


def _measure(name: str, kind: str, features: Features, setting: Setting) -> Measure:
    for side, pictures in (("generated", SAMPLES), ("real", REFERENCE)):
        require_enough(side, setting.count(pictures), features.num_features)
    observer = Observed(kind, features)

    def numbers(noted: Noted) -> Iterator[Number]:
        real, made = (_moments(noted(p, observer)) for p in (REFERENCE, SAMPLES))
        protocol = noted.protocol(SAMPLES, REFERENCE) | observer.protocol
        yield Number(name, float(frechet_distance(*real, *made)), protocol)

    return Measure({SAMPLES: [observer], REFERENCE: [observer]}, numbers)


def _moments(notes: Notes) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) in float64."""
    blocks = [block.double() for block in notes.blocks("features")]
    total = torch.stack([block.sum(0) for block in blocks]).sum(0)
    outer = torch.zeros(len(total), len(total), dtype=torch.float64)
    for block in blocks:
        outer += block.T @ block
    mean = total / notes.count
    return mean, (outer - notes.count * torch.outer(mean, mean)) / (notes.count - 1)
