"""What Stable Diffusion XL is told of a picture: original size, crop, target."""

import pytest

from ldm.data.latents.crop import Variants
from ldm.data.latents.sizes import picture_sizes

WIDE = {"original_height": 300, "original_width": 600}


def middle(stored, shape, **meta):
    (crop,) = Variants(flip=False, crops=1, seed=0).of(0, stored, shape)
    return picture_sizes("a", meta, stored, crop)


@pytest.mark.parametrize(
    "stored, meta, shape, sizes",
    [
        ((32, 32), {}, (32, 32), (32, 32, 0, 0, 32, 32)),
        # A landscape scaled to 64 and cut to its middle square when it was prepared.
        ((64, 64), WIDE, (64, 64), (300, 600, 0, 32, 64, 64)),
        # The same stored whole, cut when it was cached.
        ((64, 128), WIDE, (64, 64), (300, 600, 0, 32, 64, 64)),
        # A portrait, cut when it was prepared, scaled when it was cached.
        ((64, 64), {"original_height": 200, "original_width": 100}, (48, 48),
         (200, 100, 24, 0, 48, 48)),
        # A bucket: scaled from 512 to cover 320 x 768, of which 16 columns go on either side.
        ((512, 1280), {"original_height": 1024, "original_width": 2560}, (320, 768),
         (1024, 2560, 0, 16, 320, 768)),
        # Enlarged: the original was smaller than the target.
        ((64, 64), {"original_height": 8, "original_width": 8}, (64, 64), (8, 8, 0, 0, 64, 64)),
    ],
)  # fmt: skip
def test_sizes(stored, meta, shape, sizes):
    assert middle(stored, shape, **meta) == sizes


def test_a_mirrored_crop_is_counted_from_the_other_side():
    crops = Variants(flip=True, crops=4, seed=0).of(9, (64, 100), (64, 32))
    sizes = [picture_sizes("a", WIDE, (64, 100), crop) for crop in crops]
    whole = round(64 / 300 * 600)  # 128: preparing had cut 14 columns on either side
    for plain, mirrored, crop in zip(sizes[:4], sizes[4:], crops, strict=False):
        assert plain[:3] == mirrored[:3] == (300, 600, 0) and plain[4:] == mirrored[4:] == (64, 32)
        assert plain[3] == 14 + crop.left and plain[3] + 32 + mirrored[3] == whole


@pytest.mark.parametrize("width", ["600", 0, None, 3.5, 10**21])
def test_metadata_that_are_no_sizes_name_the_sample(width):
    with pytest.raises(ValueError, match="sample 'a': original_height and original_width"):
        middle((8, 8), (8, 8), original_height=8, original_width=width)
