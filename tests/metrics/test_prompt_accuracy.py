"""The share of images that show what was asked for."""

import pytest

from ldm.metrics.prompt_accuracy import PromptAccuracy

SEEN = [("red", "large"), ("red", "small"), ("blue", "large"), ("blue", "small")]
EXPECTED = [("red", "large"), ("red", "large"), ("red", None), (None, None)]


def test_all_attributes_must_fit_and_unsaid_ones_always_do():
    metric = PromptAccuracy(("color", "size"))
    metric.update(SEEN, EXPECTED)
    shares = {name: float(value) for name, value in metric.compute().items()}
    assert shares == {
        "prompt_accuracy": 0.5,
        "prompt_accuracy_color": pytest.approx(2 / 3),
        "prompt_accuracy_size": 0.5,
    }


def test_any_split_gives_the_same_value():
    whole, first, second = (PromptAccuracy(("color", "size")) for _ in range(3))
    whole.update(SEEN, EXPECTED)
    first.update(SEEN[:1], EXPECTED[:1])
    second.update(SEEN[1:], EXPECTED[1:])
    first.merge_state(second)
    assert first.compute() == whole.compute()


def test_an_attribute_that_nobody_asked_for_is_left_out():
    metric = PromptAccuracy(("color", "size"))
    metric.update(SEEN[:1], [("red", None)])
    assert metric.compute().keys() == {"prompt_accuracy", "prompt_accuracy_color"}
    with pytest.raises(ValueError, match="4 images, but 1 prompts"):
        metric.update(SEEN, EXPECTED[:1])
