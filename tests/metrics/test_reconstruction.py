"""PSNR, SSIM and the perceptual distance of reconstructions."""

import math

import pytest
import torch

from ldm.features.quantise import quantise
from ldm.metrics.reconstruction import (
    MeanOverImages,
    peak_signal_to_noise,
    structural_similarity,
)

COMPARED = [peak_signal_to_noise, structural_similarity]


def pair(count=5, size=16):
    torch.manual_seed(0)
    image = torch.rand(count, 3, size, size) * 2 - 1
    return image, image + 0.3 * torch.randn_like(image) * torch.rand(count, 1, 1, 1)


def test_psnr_of_a_known_error():
    image = quantise(torch.zeros(2, 3, 4, 4))
    other = image.clone()
    other[0] += 2 * 10 / 255  # ten levels everywhere
    other[1] += 2 * 1 / 255
    expected = [20 * math.log10(25.5), 20 * math.log10(255)]
    assert peak_signal_to_noise(image, other).tolist() == pytest.approx(expected, rel=1e-6)


def test_psnr_equals_torchmetrics_per_image():
    from torchmetrics.functional.image import peak_signal_noise_ratio

    image, other = pair()
    expected = [
        float(peak_signal_noise_ratio(quantise(b[None]), quantise(a[None]), data_range=2.0))
        for a, b in zip(image, other, strict=True)
    ]
    assert peak_signal_to_noise(image, other).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_identity_is_perfect():
    image, _ = pair()
    for compare, perfect in zip(COMPARED, (math.inf, 1.0), strict=True):
        assert compare(image, image).tolist() == pytest.approx([perfect] * len(image))


@pytest.mark.parametrize("compare", COMPARED)
def test_any_split_gives_the_same_mean_and_saving_does_not_matter(compare):
    image, other = pair()
    whole, first, second = MeanOverImages(), MeanOverImages(), MeanOverImages()
    whole.update(found := compare(image, other))
    first.update(compare(image[:2], quantise(other[:2])))
    second.update(compare(image[2:], quantise(other[2:])))
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), whole.compute())
    torch.testing.assert_close(whole.compute(), found.mean())


def test_wrong_ranges_shapes_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"reaches 255; images must lie in \[-1, 1\]"):
        peak_signal_to_noise(torch.full((1, 3, 2, 2), 255.0), torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="cannot be compared"):
        peak_signal_to_noise(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="at least 11 px, these have 8"):
        structural_similarity(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
