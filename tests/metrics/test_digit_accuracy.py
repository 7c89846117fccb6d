"""Reading digits from images with a classifier that was trained on scans."""

import pytest
import torch
from torch.nn import functional

from ldm.metrics.class_spread import areas
from ldm.metrics.digit_accuracy import SCAN_PX, DigitAccuracy, DigitClassifier, as_scans


@pytest.fixture(scope="module")
def scans():
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.from_numpy(data.images), torch.from_numpy(data.target)


@pytest.fixture(scope="module")
def classifier(scans):
    images, digits = scans
    return DigitClassifier(
        images[::2], digits[::2].tolist(), held_out_scans=images[1::2],
        held_out_digits=digits[1::2].tolist(),
    )  # fmt: skip


def read_back(images, size=32):
    """Scans rendered as pictures, and those as scans."""
    grey = (images / 8.0 - 1.0).float()[:, None].expand(-1, 3, -1, -1)
    pictures = functional.interpolate(grey, size=(size, size), mode="nearest")
    return as_scans(areas(pictures, SCAN_PX))


def test_a_rendered_scan_comes_back(scans):
    images = scans[0][:20]
    torch.testing.assert_close(read_back(images), images.float(), atol=0.05, rtol=0)


def test_the_classifier_reports_its_own_held_out_accuracy(classifier, scans):
    images, digits = scans
    assert 0.97 < classifier.held_out_accuracy < 1.0
    metric = DigitAccuracy(classifier)
    metric.update(read_back(images[1::2]), digits[1::2])
    assert float(metric.compute()) == pytest.approx(classifier.held_out_accuracy, abs=0.003)


def test_wrong_digits_count_as_wrong_and_any_split_gives_the_same_value(classifier, scans):
    images = read_back(scans[0][1:41:2])
    digits = classifier(images)  # all right, by definition
    digits[:5] = (digits[:5] + 1) % 10
    whole, first, second = (DigitAccuracy(classifier) for _ in range(3))
    whole.update(images, digits)
    first.update(images[:3], digits[:3].tolist())
    second.update(images[3:], digits[3:])
    first.merge_state(second)
    assert float(whole.compute()) == pytest.approx(0.75)
    assert first.compute() == whole.compute()
