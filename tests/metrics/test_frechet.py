"""The Frechet distance against closed forms, 50 digits, scipy, torch-fidelity and torchmetrics."""

import pytest
import torch

from ldm.metrics.frechet import (
    FrechetDistance,
    Moments,
    frechet_distance,
    frechet_name,
    moments,
)
from tests.metrics.features import features


def gaussian(covariance, mean=None):
    covariance = torch.as_tensor(covariance).double()
    return Moments(torch.zeros(len(covariance)).double() if mean is None else mean, covariance, 9)


def random_covariance(size, rank=None, seed=0):
    """Of whole numbers, so that float64 holds a covariance of low rank exactly."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randint(-9, 10, (size, rank or size + 2), generator=generator).double()
    return root @ root.T


def in_50_digits(a, b):
    import mpmath

    with mpmath.workdps(50):
        product = mpmath.matrix(a.covariance.tolist()) * mpmath.matrix(b.covariance.tolist())
        values = mpmath.eig(product, left=False, right=False)
        cross = sum(mpmath.sqrt(abs(mpmath.re(value))) for value in values)
        trace = sum(mpmath.mpf(float(x)) for x in a.covariance.diagonal() + b.covariance.diagonal())
        shift = sum(mpmath.mpf(float(x)) ** 2 for x in a.mean - b.mean)
        return float(shift + trace - 2 * cross)


SMALL = torch.logspace(-4, 4, 8).double()


@pytest.mark.parametrize(
    "a, b",
    [
        (random_covariance(8), random_covariance(8, seed=1)),
        (random_covariance(8, rank=3), random_covariance(8, seed=1)),
        (random_covariance(8, rank=3), random_covariance(8, rank=2, seed=1)),
        (random_covariance(8, rank=2), random_covariance(8, rank=2)),
        (torch.outer(SMALL, SMALL) * random_covariance(8), random_covariance(8, seed=1)),
        (
            torch.outer(SMALL, SMALL) * random_covariance(8),
            torch.outer(SMALL.flip(0), SMALL.flip(0)) * random_covariance(8, seed=1),
        ),
        (1e-8 * random_covariance(8), 1e8 * random_covariance(8, seed=1)),
    ],
    ids=["full", "rank 3", "ranks 3 and 2", "equal", "scaled", "scaled apart", "tiny and huge"],
)
def test_it_equals_50_digits(a, b):
    a, b = gaussian(a), gaussian(b)
    # Relative to the traces where the distance itself is zero.
    least = 1e-8 * float(a.covariance.trace() + b.covariance.trace())
    expected = in_50_digits(a, b)
    found = float(frechet_distance(a, b))
    assert found == pytest.approx(expected, rel=1e-8, abs=least if expected < least else 0.0)


def test_it_equals_scipys_matrix_root():
    from scipy.linalg import sqrtm

    a = gaussian(random_covariance(48), torch.randn(48).double())
    b = gaussian(random_covariance(48, seed=1), torch.randn(48).double())
    root = torch.from_numpy(sqrtm((a.covariance @ b.covariance).numpy()).real.copy())
    expected = (a.mean - b.mean).square().sum() + (a.covariance + b.covariance - 2 * root).trace()
    torch.testing.assert_close(frechet_distance(a, b), expected, rtol=1e-8, atol=0.0)


def test_commuting_covariances_have_a_closed_form():
    a, b = torch.tensor([1.0, 4.0, 0.0]).double(), torch.tensor([9.0, 0.0, 0.0]).double()
    shifted = gaussian(b.diag(), torch.full((3,), 2.0).double())
    found = frechet_distance(gaussian(a.diag()), shifted)
    expected = 12 + float((a.sqrt() - b.sqrt()).square().sum())
    assert float(found) == pytest.approx(expected, rel=1e-14)


def test_few_directions_of_many_cost_no_digits():
    # 252 of 256 eigenvalues are rounding: their roots would add 1e-8 each to the trace.
    a = random_covariance(256, rank=4)
    for scale in (1.0, 4.0):
        found = float(frechet_distance(gaussian(a), gaussian(scale * a)))
        trace = float(a.trace())
        assert found == pytest.approx((scale**0.5 - 1) ** 2 * trace, rel=1e-10, abs=1e-10 * trace)


@pytest.mark.parametrize(
    "count, size", [(300, 64), (600, 512), pytest.param(2100, 2048, marks=pytest.mark.slow)]
)
def test_it_equals_torch_fidelity(count, size):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    real, fake = features(count, size, seed=0), features(count + 7, size, seed=1)
    theirs = fid_statistics_to_metric(
        *(fid_features_to_statistics(side.double()) for side in (fake, real)), verbose=False
    )
    found = float(frechet_distance(moments([fake]), moments([real])))
    assert found == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


def test_it_equals_torchmetrics_and_does_not_depend_on_the_split():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Pixels(torch.nn.Module):
        num_features = 16

        def forward(self, images):
            return images.flatten(1)[:, :16].float()

    torch.manual_seed(0)
    real, fake = (torch.randint(0, 255, (n, 3, 4, 4), dtype=torch.uint8) for n in (64, 50))
    whole = FrechetDistance(16)
    theirs = FrechetInceptionDistance(Pixels())
    for images, is_real in ((real, True), (fake, False)):
        whole.update(Pixels()(images), real=is_real)
        theirs.update(images, real=is_real)
    assert float(whole.compute()) == pytest.approx(float(theirs.compute()), rel=1e-5)

    parts = [FrechetDistance(16) for _ in range(2)]
    parts[0].update(Pixels()(real[:7]), real=True)
    parts[1].update(Pixels()(real[7:]), real=True)
    parts[1].update(Pixels()(fake), real=False)
    parts[0].merge_state(parts[1])
    torch.testing.assert_close(parts[0].compute(), whole.compute(), rtol=1e-12, atol=0.0)


def test_a_large_common_offset_costs_no_digits():
    real, fake = features(64, 8, seed=0).double(), features(64, 8, seed=1).double()
    values = []
    for offset in (0.0, 1000.0):
        metric = FrechetDistance(8)
        for part in (slice(0, 20), slice(20, 64)):
            metric.update(real[part] + offset, real=True)
            metric.update(fake[part] + offset, real=False)
        values.append(float(metric.compute()))
    assert values[1] == pytest.approx(values[0], rel=1e-10)


def test_moments_are_those_of_all_rows_and_leave_them_as_they_are():
    rows = features(50, 6).double()
    before = rows.clone()
    for blocks in ([rows], rows.split(7), [rows[:0], rows]):
        found = moments(blocks)
        assert found.count == 50 and torch.equal(rows, before)
        torch.testing.assert_close(found.mean, rows.mean(0))
        torch.testing.assert_close(found.covariance, rows.T.cov())
    with pytest.raises(ValueError, match="two pictures at least; there is 1"):
        moments([rows[:1]])
    with pytest.raises(ValueError, match="no features"):
        moments([])


def test_too_few_pictures_are_refused_with_a_remedy():
    metric = FrechetDistance(16)
    metric.update(torch.randn(20, 16), real=True)
    metric.update(torch.randn(15, 16), real=False)
    with pytest.raises(ValueError, match=r"15 generated pictures are too few.*16 .*\[kid\]"):
        metric.compute()


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match="num_features=8"):
        FrechetDistance(8).update(torch.randn(2, 4), real=True)


def test_below_10_000_samples_the_name_says_how_many():
    assert frechet_name("FID", 256) == "FID-256"
    assert frechet_name("FID", 10_000) == "FID"
