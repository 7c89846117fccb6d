"""The model's own image tower as the features of a metric."""

import copy

from ldm.apps.errors import UserError
from ldm.features.clip_image import ClipImageFeatures
from ldm.text.clip import ClipTowers
from ldm.text.clip_text_tower import ClipTextTower


def image_features(towers: ClipTowers | ClipTextTower, *, normalize: bool) -> ClipImageFeatures:
    """A copy of the image tower, at the size and with the statistics it was trained with.

    UserError where the model has none.
    """
    if isinstance(towers, ClipTextTower):
        raise UserError(
            "the metrics fd_own and clip_score_own need the model's own image tower, and this "
            "model, exported or of other origin, has a text tower only. Leave them out, or "
            "evaluate the run that it was exported from."
        )
    return ClipImageFeatures(
        copy.deepcopy(towers.model),
        size_px=towers.config["vision_cfg"]["image_size"],
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        normalize=normalize,
    )
