"""What Stable Diffusion XL is told about a training picture (Podell et al. 2023, section 2.2)."""

from collections.abc import Mapping
from typing import Any

from ldm.data.latents.crop import Crop

COUNT = 6
_MAX_SIDE = 2**31 - 1  # as sizes are stored


def picture_sizes(
    key: str, meta: Mapping[str, Any], stored: tuple[int, int], crop: Crop
) -> tuple[int, ...]:
    """Original height and width, top and left of the crop, target height and width, in pixels.

    The original is that of the sample's metadata (original_height, original_width), or else the
    ``stored`` picture itself. Preparing scaled it to the stored picture's shorter side and may have
    cut it to the middle; ``crop`` scaled and cut it again. The corner is counted in the whole
    original as scaled by both, mirrored where the crop is. ValueError for metadata that are no
    sizes.
    """
    names = ("original_height", "original_width")
    original = [meta.get(name, side) for name, side in zip(names, stored, strict=True)]
    if not all(isinstance(side, int) and 0 < side <= _MAX_SIDE for side in original):
        raise ValueError(
            f"sample {key!r}: original_height and original_width in its metadata must be pixels, "
            f"found {original}; mend or remove them there."
        )
    scale = max(crop.height / stored[0], crop.width / stored[1]) * min(stored) / min(original)
    whole = [
        max(round(scale * side), scaled) for side, scaled in zip(original, crop.scaled, strict=True)
    ]
    top, left = (
        (side - scaled) // 2 + corner
        for side, scaled, corner in zip(whole, crop.scaled, (crop.top, crop.left), strict=True)
    )
    if crop.mirrored:
        left = whole[1] - crop.width - left
    return (*original, top, left, crop.height, crop.width)
