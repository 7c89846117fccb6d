"""The model's own image tower as the features of a metric."""

from ldm.apps.errors import UserError
from ldm.features.clip_image import ClipImageFeatures
from ldm.text.clip import ClipText, ClipTowers
from ldm.types import ConditionEncoder


def own_towers(encoder: ConditionEncoder | None, whose: str) -> ClipTowers:
    """The image and text tower behind a condition encoder; UserError where there is no such pair.

    ``whose`` says where they were looked for.
    """
    if isinstance(encoder, ClipText) and isinstance(encoder.towers, ClipTowers):
        return encoder.towers.eval()
    raise UserError(
        "metrics in own features (fd_own, rfd_own, kid_own, clip_score_own, memorisation) need "
        f"the model's own image tower, and {whose}. "
        "Models that are exported or of other origin, have two text encoders, or are conditioned "
        "by classes or by nothing, have no such tower. Give text_run=RUN of stage text_encoder, or "
        "leave these metrics out."
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
