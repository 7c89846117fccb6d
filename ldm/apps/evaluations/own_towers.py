"""The model's own image tower as the features of a metric."""

from ldm.features.clip_image import ClipImageFeatures
from ldm.text.clip import ClipTowers


def image_features(towers: ClipTowers, *, normalize: bool) -> ClipImageFeatures:
    """The image tower as features, at the size and with the statistics it was trained with."""
    return ClipImageFeatures(
        towers.model,
        size_px=towers.config["vision_cfg"]["image_size"],
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        normalize=normalize,
    )
