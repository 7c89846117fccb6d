"""Pictures and captions in the model's own CLIP towers, for which nothing is downloaded."""

from ldm.apps.evaluations.measure import Setting
from ldm.apps.evaluations.observers.clip import ClipObserver, of_image_tower
from ldm.apps.evaluations.observers.features import FeaturesObserver
from ldm.apps.evaluations.own_towers import image_features


def own_image(setting: Setting) -> FeaturesObserver:
    """The observer of the own image tower; UserError where the model has none."""
    towers = setting.towers()
    features = image_features(towers, normalize=False)
    return FeaturesObserver("own", features, of_image_tower(towers))


def own_pair(setting: Setting) -> ClipObserver:
    """The observer of both own towers, for a CLIP score; UserError likewise."""
    towers = setting.towers()
    features = image_features(towers, normalize=True)
    return ClipObserver("own_pair", features, towers, features.protocol)
