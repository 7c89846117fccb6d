"""The model's own image tower as the features of a metric."""

import copy

from ldm.apps.errors import UserError
from ldm.features.clip_image import ClipImageFeatures
from ldm.text.clip import ClipText, ClipTowers
from ldm.types import ConditionEncoder


def own_towers(encoder: ConditionEncoder) -> ClipTowers:
    """A copy of a model's image and text tower on the CPU; UserError where it has no such pair."""
    if isinstance(encoder, ClipText) and isinstance(encoder.towers, ClipTowers):
        return copy.deepcopy(encoder.towers).cpu().eval()
    raise UserError(
        "the metrics fd_own and clip_score_own need the model's own image tower. This model has "
        "none: it is exported or of other origin, has two text encoders, or is conditioned by "
        "classes or by nothing. Leave these metrics out, or evaluate the run it was exported from."
    )


def image_features(towers: ClipTowers, *, normalize: bool) -> ClipImageFeatures:
    """The image tower as features, at the size and with the statistics it was trained with."""
    return ClipImageFeatures(
        towers.model,
        size_px=towers.config["vision_cfg"]["image_size"],
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        normalize=normalize,
    )
