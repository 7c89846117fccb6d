"""The Inception score of samples; it needs no reference."""

from collections.abc import Iterator

from ldm.apps.evaluations.alone import alone
from ldm.apps.evaluations.measure import SAMPLES, Measure, Noted, Number, Observer, Setting
from ldm.apps.evaluations.observers.inception import inception
from ldm.features.resize import ResizeName
from ldm.ranges import Count


def inception_score(setting: Setting, *, resize: ResizeName, splits: Count) -> Measure:
    """By the classifier on top of the last layer."""
    return score_of(setting, inception(setting, layer=2048, resize=resize), splits=splits)


def score_of(setting: Setting, observer: Observer, *, splits: int) -> Measure:
    """The score of an observer that notes "logits"; ValueError for fewer pictures than splits."""
    from ldm.metrics.inception_score import InceptionScore, require_parts

    require_parts(setting.count(SAMPLES), splits)

    def numbers(noted: Noted) -> Iterator[Number]:
        metric = alone(InceptionScore(splits))
        for logits in noted(SAMPLES, observer).blocks("logits"):
            metric.update(logits)
        protocol = noted.protocol(SAMPLES) | observer.protocol
        for name, value in metric.compute().items():
            yield Number(name, float(value), protocol | {"splits": splits})

    return Measure({SAMPLES: [observer]}, numbers)
