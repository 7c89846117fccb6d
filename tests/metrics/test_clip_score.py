"""The CLIP score with injected encoders."""

import pytest
import torch

from ldm.metrics.clip_score import ClipScore

DIRECTIONS = {"x": [2.0, 0.0, 0.0], "y": [0.0, 5.0, 0.0], "-x": [-1.0, 0.0, 0.0]}


def score():
    return ClipScore(
        lambda images: images[:, :, 0, 0] * 3.0,
        lambda captions: torch.tensor([DIRECTIONS[caption] for caption in captions]),
    )


def pointing(*vectors):
    return torch.tensor(vectors).view(-1, 3, 1, 1)


def test_it_is_the_raw_mean_cosine():
    metric = score()
    metric.update(pointing([1.0, 0, 0], [1.0, 0, 0]), ["x", "-x"])
    zero_level = 1 / 255  # 0 is not an 8-bit level: it becomes +1/255
    length = (1 + 2 * zero_level**2) ** 0.5
    assert float(metric.compute()) == pytest.approx(0.0, abs=1e-6)
    metric.update(pointing([1.0, 0, 0]), ["x"])
    assert float(metric.compute()) == pytest.approx(1 / (3 * length), rel=1e-5)


def test_any_split_gives_the_same_value():
    torch.manual_seed(0)
    images = torch.rand(5, 3, 2, 2) * 2 - 1
    captions = ["x", "y", "-x", "y", "x"]
    whole, first, second = score(), score(), score()
    whole.update(images, captions)
    first.update(images[:2], captions[:2])
    second.update(images[2:], captions[2:])
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), whole.compute())


def test_captions_must_be_as_many_as_images():
    with pytest.raises(ValueError, match="1 images, but 2 captions"):
        score().update(pointing([1.0, 0, 0]), ["x", "y"])
