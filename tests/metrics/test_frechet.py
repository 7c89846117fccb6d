"""The Frechet distance against closed forms, scipy and torchmetrics."""

import pytest
import torch

from ldm.metrics.frechet import FrechetDistance, frechet_distance


def first_pixels(count):
    return lambda images: images.flatten(1)[:, :count].float()


def random_covariance(size, rank=None):
    root = torch.randn(size, rank or size, dtype=torch.float64)
    return root @ root.T


def test_it_equals_scipys_matrix_root():
    from scipy.linalg import sqrtm

    torch.manual_seed(0)
    a, b = random_covariance(24), random_covariance(24)
    mean_a, mean_b = torch.randn(2, 24, dtype=torch.float64)
    root = torch.from_numpy(sqrtm((a @ b).numpy()).real.copy())
    expected = (mean_a - mean_b).square().sum() + (a + b - 2 * root).trace()
    torch.testing.assert_close(frechet_distance(mean_a, a, mean_b, b), expected)


def test_commuting_covariances_have_a_closed_form():
    a, b = torch.tensor([1.0, 4.0, 0.0]).double(), torch.tensor([9.0, 0.0, 0.0]).double()
    zero = torch.zeros(3).double()
    found = frechet_distance(zero, a.diag(), zero + 2, b.diag())
    assert float(found) == pytest.approx(12 + float((a.sqrt() - b.sqrt()).square().sum()))


def test_singular_covariances_give_finite_values():
    torch.manual_seed(0)
    a = random_covariance(32, rank=3)
    mean = torch.randn(32).double()
    assert float(frechet_distance(mean, a, mean, a)) == pytest.approx(0.0, abs=1e-5)
    assert float(frechet_distance(mean, 0 * a, mean, a)) == pytest.approx(float(a.trace()))


def images_of(count, shift=0.0):
    return (torch.randn(count, 3, 4, 4) * 0.2 + shift).clamp(-1, 1)


def test_it_equals_torchmetrics_and_does_not_depend_on_the_split():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Pixels(torch.nn.Module):
        num_features = 16

        def forward(self, images):
            return images.flatten(1)[:, :16].float() / 127.5 - 1

    torch.manual_seed(0)
    real, fake = images_of(64), images_of(50, shift=0.2)
    whole = FrechetDistance(first_pixels(16), 16)
    theirs = FrechetInceptionDistance(Pixels())
    for images, is_real in ((real, True), (fake, False)):
        whole.update(images, real=is_real)
        theirs.update(((images + 1) * 127.5).round().to(torch.uint8), real=is_real)
    assert float(whole.compute()) == pytest.approx(float(theirs.compute()), rel=1e-5)

    parts = [FrechetDistance(first_pixels(16), 16) for _ in range(2)]
    parts[0].update(real[:7], real=True)
    parts[1].update(real[7:], real=True)
    parts[1].update(fake, real=False)
    parts[0].merge_state(parts[1])
    torch.testing.assert_close(parts[0].compute(), whole.compute())


def test_a_large_common_offset_costs_no_digits():
    torch.manual_seed(0)
    real, fake = images_of(64), images_of(64, shift=0.1)
    values = []
    for offset in (0.0, 1000.0):
        metric = FrechetDistance(lambda x, o=offset: x.flatten(1)[:, :8].double() + o, 8)
        metric.update(real, real=True)
        metric.update(fake, real=False)
        values.append(float(metric.compute()))
    assert values[1] == pytest.approx(values[0], rel=1e-6)


def test_too_few_images_are_refused_with_a_remedy():
    metric = FrechetDistance(first_pixels(16), 16)
    metric.update(images_of(20), real=True)
    metric.update(images_of(15), real=False)
    with pytest.raises(ValueError, match="15 generated images are too few.*16 .*fewer dimensions"):
        metric.compute()


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match="num_features=8"):
        FrechetDistance(first_pixels(4), 8).update(images_of(2), real=True)
