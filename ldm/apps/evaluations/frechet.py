"""The Frechet distance to the reference, of samples and of reconstructions, by several networks."""

from collections.abc import Iterator

from ldm.apps.evaluations.measure import (
    RECONSTRUCTIONS,
    REFERENCE,
    SAMPLES,
    Measure,
    Noted,
    Number,
    Setting,
)
from ldm.apps.evaluations.observers.clip import clip_image
from ldm.apps.evaluations.observers.inception import inception
from ldm.apps.evaluations.observers.own import own_image
from ldm.apps.evaluations.observers.timm import timm_features
from ldm.apps.evaluations.reference import FeatureObserver, reference_count
from ldm.features.inception import Layer
from ldm.features.resize import ResizeName
from ldm.ranges import Count


def fid(setting: Setting, *, layer: Layer, resize: ResizeName) -> Measure:
    """FID; of another layer than the last it is called fd_inception_<layer>."""
    name = "FID" if layer == 2048 else f"fd_inception_{layer}"
    return frechet(setting, name, inception(setting, layer=layer, resize=resize))


def rfid(setting: Setting, *, layer: Layer, resize: ResizeName) -> Measure:
    """FID of reconstructions."""
    name = "rFID" if layer == 2048 else f"rfd_inception_{layer}"
    observer = inception(setting, layer=layer, resize=resize)
    return frechet(setting, name, observer, RECONSTRUCTIONS)


def fd_own(setting: Setting) -> Measure:
    """In the features of the model's own image tower."""
    return frechet(setting, "fd_own", own_image(setting))


def rfd_own(setting: Setting) -> Measure:
    """Of reconstructions, in the features of the own image tower."""
    return frechet(setting, "rfd_own", own_image(setting), RECONSTRUCTIONS)


def fd(setting: Setting, *, name: str, model: str, file: str, size_px: Count | None) -> Measure:
    """In the features of any network of timm, under a name of one's own."""
    observer = timm_features(setting, model=model, file=file, size_px=size_px)
    return frechet(setting, name, observer)


def fd_clip(setting: Setting, *, file: str, model: str | None) -> Measure:
    """In the embeddings of a published CLIP's image tower."""
    return frechet(setting, "fd_clip", clip_image(setting, file=file, model=model))


def frechet(
    setting: Setting, name: str, observer: FeatureObserver, pictures: str = SAMPLES
) -> Measure:
    """The distance of a set of pictures to the reference in an observer's features."""
    from ldm.metrics.frechet import frechet_distance, frechet_name, require_enough

    count, size = setting.count(pictures), observer.num_features
    # The reference first: alone, to become a file of statistics, it stands for the samples too.
    if (real := reference_count(setting)) is not None:
        require_enough("real", real, size)
    require_enough("generated" if pictures == SAMPLES else "reconstructed", count, size)
    if setting.statistics is not None:
        given = setting.statistics.moments(observer.name, observer.protocol, "features")
        if len(given.mean) != size:
            raise ValueError(
                f"The statistics of the reference are of {len(given.mean)} features, those of "
                f"{observer.name} are {size}."
            )

    def numbers(noted: Noted) -> Iterator[Number]:
        ours, theirs = (noted.moments(s, observer, "features") for s in (pictures, REFERENCE))
        protocol = noted.protocol(pictures, REFERENCE) | observer.protocol
        yield Number(frechet_name(name, count), float(frechet_distance(ours, theirs)), protocol)

    return Measure({pictures: [observer], REFERENCE: [observer]}, numbers)
