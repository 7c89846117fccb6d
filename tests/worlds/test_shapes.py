"""The world of shapes: drawing is a pure function, captions invert, the judge is right."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ldm.data.images import to_tensor
from ldm.worlds import shapes
from ldm.worlds.shapes import ALL, BACKGROUNDS, COLORS, TEMPLATES, Shape


def test_every_caption_parses_back_and_phrasings_differ():
    for shape in ALL:
        captions = [shapes.caption(shape, variant) for variant in range(len(TEMPLATES))]
        assert len(set(captions)) == len(TEMPLATES) >= 6
        assert all(shapes.parse(caption) == shape for caption in captions)
    assert len(set(ALL)) == 256


def test_canonical_caption_reads_well():
    assert (
        shapes.caption(Shape("red", "circle", "navy", "large"))
        == "a large red circle on a navy background"
    )
    assert "an olive background" in shapes.caption(Shape("red", "circle", "olive", "large"))


@pytest.mark.parametrize("text", ["", "a red circle on a navy background", "large red blue cross"])
def test_parse_explains_what_is_missing(text):
    with pytest.raises(ValueError, match="exactly one of"):
        shapes.parse(text)


def test_a_sample_does_not_depend_on_its_batch():
    index = torch.tensor([5, 0, 123456789])
    images, captions, truth = shapes.draw_batch(7, index, 32)
    for row, i in enumerate(index.tolist()):
        image, caption, shape = shapes.draw_sample(7, i, 32)
        assert np.array_equal(image, images[row].numpy())
        assert (caption, shape) == (captions[row], truth[row])
    other, _, _ = shapes.draw_batch(8, index, 32)
    assert not torch.equal(images, other)


@pytest.mark.parametrize("corner", list(product([1e-6, 1 - 1e-6], repeat=3)))
def test_shapes_stay_inside_the_frame(corner):
    jitter = torch.full((256, 9), 0.5)
    jitter[:, :3] = torch.tensor(corner)
    images = shapes.draw(list(ALL), jitter, 32).float()
    back = torch.tensor([BACKGROUNDS[s.background] for s in ALL]).float()[:, None]
    edges = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    assert max((edge - back).abs().max() for edge in edges) <= 1.0


def test_palettes_are_told_apart_beyond_their_jitter():
    def closest(first, second):
        pairs = product(first.items(), second.items())
        return min(np.linalg.norm(np.subtract(a, b)) for (m, a), (n, b) in pairs if m != n)

    assert closest(COLORS, COLORS) > 80
    assert closest(BACKGROUNDS, BACKGROUNDS) > 80
    assert closest(COLORS, BACKGROUNDS) > 80


def _blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    line = torch.exp(-0.5 * (torch.arange(-2, 3) / sigma) ** 2)
    kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 5, 5)
    return F.conv2d(F.pad(images, (2,) * 4, mode="replicate"), kernel, groups=3)


@pytest.mark.parametrize("size_px, count", [(32, 1500), (64, 200)])
def test_the_judge_is_right_on_clean_noisy_and_blurred_pictures(size_px, count):
    images, _, truth = shapes.draw_batch(1, torch.arange(count), size_px)
    pixels = to_tensor(images.numpy())
    noise = 0.05 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    cases = {
        "bytes": images.movedim(-1, 1),
        "clean": pixels,
        "noisy": pixels + noise,
        "blurred": _blurred(pixels, 0.8),
        "both": _blurred(pixels, 0.8) + noise,
    }
    for name, case in cases.items():
        right = np.mean([a == b for a, b in zip(shapes.judge(case), truth, strict=True)])
        assert right >= 0.998, name


def test_the_fit_tells_a_shape_from_no_shape():
    images, _, _ = shapes.draw_batch(0, torch.arange(64), 32)
    assert shapes.examine(images.movedim(-1, 1))[1].min() > 0.85
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert shapes.examine(noise)[1].max() < 0.6
    blank = torch.cat([torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), torch.nan)])
    assert len(shapes.judge(blank)) == 2
