"""The share of images that show what was asked for."""

import pytest
import torch

from ldm.metrics.prompt_accuracy import PromptAccuracy


def judge(images):
    """A colour by the red channel, a size by the green one."""
    return [
        ("red" if image[0].mean() > 0 else "blue", "large" if image[1].mean() > 0 else "small")
        for image in images
    ]


def picture(red, green):
    return torch.tensor([red, green, 0.0]).view(3, 1, 1).expand(3, 4, 4)


IMAGES = torch.stack([picture(1, 1), picture(1, -1), picture(-1, 1), picture(-1, -1)])
EXPECTED = [("red", "large"), ("red", "large"), ("red", None), (None, None)]


def test_all_attributes_must_fit_and_unsaid_ones_always_do():
    metric = PromptAccuracy(judge, ("color", "size"))
    metric.update(IMAGES, EXPECTED)
    shares = {name: float(value) for name, value in metric.compute().items()}
    assert shares == {
        "prompt_accuracy": 0.5,
        "prompt_accuracy_color": pytest.approx(2 / 3),
        "prompt_accuracy_size": 0.5,
    }


def test_any_split_gives_the_same_value():
    whole, first, second = (PromptAccuracy(judge, ("color", "size")) for _ in range(3))
    whole.update(IMAGES, EXPECTED)
    first.update(IMAGES[:1], EXPECTED[:1])
    second.update(IMAGES[1:], EXPECTED[1:])
    first.merge_state(second)
    assert first.compute() == whole.compute()


def test_an_attribute_that_nobody_asked_for_is_left_out():
    metric = PromptAccuracy(judge, ("color", "size"))
    metric.update(IMAGES[:1], [("red", None)])
    assert metric.compute().keys() == {"prompt_accuracy", "prompt_accuracy_color"}
    with pytest.raises(ValueError, match="4 images, but 1 prompts"):
        metric.update(IMAGES, EXPECTED[:1])
