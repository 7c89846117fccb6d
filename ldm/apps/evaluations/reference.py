"""What a measure asks of the reference before any picture is made, whatever it was given as."""

from typing import Protocol

from ldm.apps.evaluations.measure import REFERENCE, Observer, Setting


class FeatureObserver(Observer, Protocol):
    """An observer that notes "features" (B, num_features)."""

    num_features: int


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
