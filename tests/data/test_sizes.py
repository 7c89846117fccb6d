"""What Stable Diffusion XL is told of a picture: original size, crop, target."""

import numpy as np
import pytest

from ldm.data.sizes import picture_sizes
from ldm.data.source import Sample


def sample(height: int, width: int, **meta: object) -> Sample:
    return Sample("a", np.zeros((height, width, 3), np.uint8), "", meta)


@pytest.mark.parametrize(
    "stored, meta, size_px, sizes",
    [
        ((32, 32), {}, 32, (32, 32, 0, 0, 32, 32)),
        # A landscape scaled to 64 and cut to its middle square when it was prepared.
        ((64, 64), {"original_height": 300, "original_width": 600}, 64, (300, 600, 0, 32, 64, 64)),
        # The same stored whole, cut when it was cached.
        ((64, 128), {"original_height": 300, "original_width": 600}, 64, (300, 600, 0, 32, 64, 64)),
        # A portrait, and a crop smaller than what is stored.
        ((64, 64), {"original_height": 200, "original_width": 100}, 48, (200, 100, 40, 8, 48, 48)),
        # Enlarged: the original was smaller than the target.
        ((64, 64), {"original_height": 8, "original_width": 8}, 64, (8, 8, 0, 0, 64, 64)),
    ],
)
def test_sizes(stored, meta, size_px, sizes):
    assert picture_sizes(sample(*stored, **meta), size_px) == sizes


@pytest.mark.parametrize("width", ["600", 0, None, 3.5])
def test_metadata_that_are_no_sizes_name_the_sample(width):
    with pytest.raises(ValueError, match="sample 'a': original_height and original_width"):
        picture_sizes(sample(8, 8, original_height=8, original_width=width), 8)
