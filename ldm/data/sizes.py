"""What Stable Diffusion XL is told about a training picture (Podell et al. 2023, section 2.2)."""

from ldm.data.source import Sample


def picture_sizes(sample: Sample, size_px: int) -> tuple[int, ...]:
    """Original height and width, top and left of the crop, target height and width, in pixels.

    The original is that of the sample's metadata (original_height, original_width), or else the
    picture itself. It was scaled to the picture's shorter side, and its middle square of
    ``size_px`` is what is trained on: the crop is counted in the scaled picture. ValueError for
    metadata that are no sizes.
    """
    sides = sample.image.shape[:2]
    original = [
        sample.meta.get(name, side)
        for name, side in zip(("original_height", "original_width"), sides, strict=True)
    ]
    if not all(isinstance(side, int) and side > 0 for side in original):
        raise ValueError(
            f"sample {sample.key!r}: original_height and original_width in its metadata must be "
            f"pixels, found {original}; mend or remove them there."
        )
    scale = min(sides) / min(original)
    crop = [max(round(scale * side) - size_px, 0) // 2 for side in original]
    return (*original, *crop, size_px, size_px)
