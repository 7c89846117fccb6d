"""Are samples like real pictures, and is what is real among the samples?"""

from collections.abc import Iterator

from ldm.apps.evaluations.alone import alone
from ldm.apps.evaluations.measure import REFERENCE, SAMPLES, Measure, Noted, Number, Setting
from ldm.apps.evaluations.observers.inception import inception
from ldm.apps.evaluations.reference import FeatureObserver, feed, reference_count, require_features
from ldm.features.inception import Layer
from ldm.features.resize import ResizeName
from ldm.ranges import Count


def precision_recall(
    setting: Setting, *, layer: Layer, resize: ResizeName, neighbours: Count
) -> Measure:
    """Precision and recall in the Inception's features."""
    observer = inception(setting, layer=layer, resize=resize)
    return in_manifolds(setting, observer, neighbours=neighbours)


def in_manifolds(setting: Setting, observer: FeatureObserver, *, neighbours: int) -> Measure:
    """Precision and recall in an observer's features."""
    from ldm.metrics.precision_recall import PrecisionRecall, require_neighbours

    require_features(setting, observer)
    require_neighbours("generated", setting.count(SAMPLES), neighbours)
    if (real := reference_count(setting)) is not None:
        require_neighbours("real", real, neighbours)

    def numbers(noted: Noted) -> Iterator[Number]:
        metric = alone(PrecisionRecall(neighbours))
        feed(metric, noted, observer)
        protocol = noted.protocol(SAMPLES, REFERENCE) | observer.protocol
        for name, value in metric.compute().items():
            yield Number(name, float(value), protocol | {"neighbours": neighbours})

    return Measure({SAMPLES: [observer], REFERENCE: [observer]}, numbers)
