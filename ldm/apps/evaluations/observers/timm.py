"""Features of pictures in an image network of timm, such as DINOv2."""

from functools import lru_cache

from ldm import weights
from ldm.apps.evaluations.measure import Setting
from ldm.apps.evaluations.observers.features import FeaturesObserver
from ldm.features.prepared import PreparedFeatures
from ldm.features.timm import read_timm


def timm_features(
    setting: Setting, *, model: str, file: str, size_px: int | None = None
) -> FeaturesObserver:
    """The observer of timm's network ``model`` with the weights ``file``.

    ``file`` is a name that `ldm weights list` shows, or that of a file in weights_dir; ``size_px``
    None is the size that the weights are for. ValueError for what lacks.
    """
    found = weights.find(file, setting.weights_dir, allow_unknown=setting.allow_unknown_weights)
    return FeaturesObserver("timm", _read(model, found, size_px), found.protocol)


@lru_cache(maxsize=2)
def _read(model: str, file: weights.FoundFile, size_px: int | None) -> PreparedFeatures:
    return read_timm(model, file.path, size_px=size_px)
