"""Are samples copies of training pictures?"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ldm.apps.evaluations.alone import alone
from ldm.apps.evaluations.measure import (
    REFERENCE,
    SAMPLES,
    TRAINING,
    Block,
    Measure,
    Noted,
    Number,
    Observer,
    Setting,
)
from ldm.apps.evaluations.observers.inception import inception
from ldm.apps.evaluations.observers.own import own_image
from ldm.apps.evaluations.reference import FeatureObserver, require_features
from ldm.features.resize import ResizeName
from ldm.metrics.notes import Rows, rows_of
from ldm.ranges import Natural, Share

if TYPE_CHECKING:
    from ldm.metrics.memorisation import Nearest


def memorisation(setting: Setting, *, share: Share, listed: Natural) -> Measure:
    """By the features of the model's own image tower."""
    return copies(setting, "memorisation", own_image(setting), share=share, listed=listed)


def memorisation_inception(
    setting: Setting, *, resize: ResizeName, share: Share, listed: Natural
) -> Measure:
    """By the Inception's features, for models without an image tower."""
    observer = inception(setting, layer=2048, resize=resize)
    return copies(setting, "memorisation_inception", observer, share=share, listed=listed)


class Mirrored:
    """Notes what an observer sees of the pictures flipped left to right."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.name = f"{observer.name}_mirrored"
        self.protocol: dict[str, Any] = observer.protocol | {"mirrored": True}

    def __call__(self, block: Block) -> Rows:
        return self._observer(block._replace(images=block.images.flip(-1)))


def copies(
    setting: Setting, name: str, observer: FeatureObserver, *, share: float, listed: int
) -> Measure:
    """The numbers of ``Memorisation``, and the nearest pairs as nearest.json for the report.

    Samples and reference pictures are compared with training pictures as they are and mirrored.
    """
    from ldm.metrics.memorisation import Memorisation, Nearest, nearest, require_share

    require_share(share)
    if listed < 0:
        raise ValueError(f"Memorisation lists at least 0 nearest pairs, not listed={listed}.")
    mirrored = Mirrored(observer)
    require_features(setting, observer, mirrored)
    setting.count(TRAINING)

    def numbers(noted: Noted) -> Iterator[Number]:
        queries = [
            rows_of(noted(pictures, seen_by), "features")
            for pictures in (SAMPLES, REFERENCE)
            for seen_by in (observer, mirrored)
        ]
        # All in one pass, as the training pictures are by far the most.
        found = nearest(torch.cat(queries), noted(TRAINING, observer).blocks("features"))
        parts = zip(*(part.split([len(q) for q in queries]) for part in found), strict=True)
        as_it_is, flipped, real, real_flipped = (Nearest(*part) for part in parts)
        samples = _nearer(as_it_is, flipped)
        noted.keep(name.replace("memorisation", "nearest"), _pairs(samples, listed))
        metric = alone(Memorisation(share))
        metric.update(samples.distance, real=False)
        metric.update(_nearer(real, real_flipped).distance, real=True)
        protocol = noted.protocol(SAMPLES, REFERENCE, TRAINING) | observer.protocol
        protocol |= {"distance": "features of length 1, also mirrored", "share": share}
        for part, value in metric.compute().items():
            if not math.isfinite(value):
                print(f"{name}.{part}: left out, most reference pictures are training pictures")
                continue
            yield Number(f"{name}.{part}", float(value), protocol)

    return Measure(
        {SAMPLES: [observer, mirrored], REFERENCE: [observer, mirrored], TRAINING: [observer]},
        numbers,
    )


def _nearer(a: "Nearest", b: "Nearest") -> "Nearest":
    """Of two searches for the same pictures the nearer finds."""
    first = a.distance <= b.distance
    return a._replace(
        training=torch.where(first, a.training, b.training),
        distance=torch.where(first, a.distance, b.distance),
    )


def _pairs(found: "Nearest", count: int) -> list[dict[str, Any]]:
    """The ``count`` samples that are nearest to a training picture, nearest first."""
    order = found.distance.argsort(stable=True)[:count].tolist()
    return [
        {"sample": i, "training": int(found.training[i]), "distance": float(found.distance[i])}
        for i in order
    ]
