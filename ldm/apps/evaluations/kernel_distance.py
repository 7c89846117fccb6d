"""The kernel distance (KID) of samples to the reference, for which some hundreds suffice."""

from collections.abc import Iterator
from typing import Annotated

from ldm.apps.evaluations.alone import alone
from ldm.apps.evaluations.measure import REFERENCE, SAMPLES, Measure, Noted, Number, Setting
from ldm.apps.evaluations.observers.inception import inception
from ldm.apps.evaluations.observers.own import own_image
from ldm.apps.evaluations.reference import FeatureObserver, feed, reference_count, require_features
from ldm.features.inception import Layer
from ldm.features.resize import ResizeName
from ldm.ranges import AtLeast, Count

Several = Annotated[int, AtLeast(2)]


def kid(
    setting: Setting, *, layer: Layer, resize: ResizeName, subsets: Count, subset_size: Several
) -> Measure:
    """KID, in the Inception's features."""
    observer = inception(setting, layer=layer, resize=resize)
    return kernel_distance(setting, "kid", observer, subsets=subsets, subset_size=subset_size)


def kid_own(setting: Setting, *, subsets: Count, subset_size: Several) -> Measure:
    """In the features of the model's own image tower."""
    observer = own_image(setting)
    return kernel_distance(setting, "kid_own", observer, subsets=subsets, subset_size=subset_size)


def kernel_distance(
    setting: Setting, name: str, observer: FeatureObserver, *, subsets: int, subset_size: int
) -> Measure:
    """The distance and, as ``name``_std, its standard deviation over subsets where they differ."""
    from ldm.metrics.kernel_distance import KernelDistance, require_draws, size_of_subsets

    require_draws(subsets, subset_size)
    require_features(setting, observer)
    count = setting.count(SAMPLES)
    real = reference_count(setting) or count  # statistics without a count have no features either
    drawn = size_of_subsets(subset_size, count, real)

    def numbers(noted: Noted) -> Iterator[Number]:
        metric = alone(KernelDistance(subsets=subsets, subset_size=subset_size))
        feed(metric, noted, observer)
        found = metric.compute()
        protocol = noted.protocol(SAMPLES, REFERENCE) | observer.protocol
        protocol |= {"kernel": "(x . y / D + 1)^3", "subsets": subsets, "subset_size": drawn}
        yield Number(name, float(found["kid"]), protocol)
        if "kid_std" in found:
            yield Number(f"{name}_std", float(found["kid_std"]), protocol)

    return Measure({SAMPLES: [observer], REFERENCE: [observer]}, numbers)
