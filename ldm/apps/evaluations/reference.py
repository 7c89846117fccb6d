"""What measures that compare samples with the reference share, whatever this was given as."""

from typing import Protocol

from torch import Tensor

from ldm.apps.evaluations.measure import REFERENCE, SAMPLES, Noted, Observer, Setting


class FeatureObserver(Observer, Protocol):
    """An observer that notes "features" (B, num_features)."""

    num_features: int


class TwoSided(Protocol):
    """A metric of real and generated features."""

    def update(self, features: Tensor, *, real: bool) -> None: ...


def reference_count(setting: Setting) -> int | None:
    """How many pictures the reference has; None where published statistics do not say it."""
    if setting.statistics is None:
        return setting.count(REFERENCE)
    return setting.statistics.count


def require_features(setting: Setting, *observers: Observer) -> None:
    """ValueError where a file of statistics lacks the rows that these observers would note."""
    if setting.statistics is not None:
        for observer in observers:
            setting.statistics.notes(observer.name, observer.protocol)


def feed(metric: TwoSided, noted: Noted, observer: FeatureObserver) -> None:
    """Update a metric with what an observer noted of the samples and of the reference."""
    for real, pictures in ((False, SAMPLES), (True, REFERENCE)):
        for features in noted(pictures, observer).blocks("features"):
            metric.update(features, real=real)
