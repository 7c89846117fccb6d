"""The Frechet distance of samples to the reference, in two feature spaces."""

from collections.abc import Iterator

from ldm import weights
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
from ldm.features.inception import InceptionFeatures, read_inception
from ldm.metrics.frechet import frechet_distance, require_enough
from ldm.metrics.notes import Rows

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
    found = weights.find(
        "inception_fid", setting.weights_dir, allow_unknown=setting.allow_unknown_weights
    )
    features = InceptionFeatures(read_inception(found.path), layer=2048, resize="torch_fidelity")
    return _measure(name, "inception", features, setting)


def fd_own(setting: Setting) -> Measure:
    """In the features of the model's own image tower."""
    return _measure("fd_own", "own", image_features(setting.towers(), normalize=False), setting)


def _measure(name: str, kind: str, features: Features, setting: Setting) -> Measure:
    for side, pictures in (("generated", SAMPLES), ("real", REFERENCE)):
        if pictures == SAMPLES or setting.statistics is None:
            require_enough(side, setting.count(pictures), features.num_features)
    observer = Observed(kind, features)

    def numbers(noted: Noted) -> Iterator[Number]:
        real, made = (noted.moments(p, observer, "features") for p in (REFERENCE, SAMPLES))
        protocol = noted.protocol(SAMPLES, REFERENCE) | observer.protocol
        yield Number(name, float(frechet_distance(real, made)), protocol)

    return Measure({SAMPLES: [observer], REFERENCE: [observer]}, numbers)
