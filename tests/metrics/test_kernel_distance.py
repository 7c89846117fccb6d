"""The kernel distance against torch-fidelity and against its own meaning."""

import numpy as np
import pytest
import torch

from ldm.metrics.kernel_distance import KernelDistance
from tests.metrics.features import features


def distance(fake, real, subsets=100, subset_size=1000):
    metric = KernelDistance(subsets=subsets, subset_size=subset_size)
    for block in fake.split(300):
        metric.update(block, real=False)
    metric.update(real, real=True)
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("size, shift", [(64, 0.0), (64, 0.2), (512, 0.05)])
def test_it_equals_torch_fidelity(size, shift):
    from torch_fidelity.metric_kid import kid_features_to_metric

    fake, real = features(700, size, seed=0, shift=shift), features(900, size, seed=1)
    theirs = kid_features_to_metric(
        fake.double(), real.double(), kid_subsets=20, kid_subset_size=200, verbose=False
    )
    ours = distance(fake, real, subsets=20, subset_size=200)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert ours["kid_std"] == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-9)


def test_draw_by_draw_it_is_what_it_is_at_once(monkeypatch):
    fake, real = features(70, 16, seed=0), features(90, 16, seed=1)
    at_once = distance(fake, real, subsets=20, subset_size=30)
    monkeypatch.setattr("ldm.metrics.kernel_distance._ALL_PAIRS", 159)  # of 160
    assert distance(fake, real, subsets=20, subset_size=30) == pytest.approx(at_once, rel=1e-9)


def test_it_has_a_closed_form_of_few_features():
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [3.0]])
    # (2 * 3^3) / 2 + (2 * 1) / 2 - 2 (1 + 4^3 + 1 + 7^3) / 4
    assert distance(x, y)["kid"] == pytest.approx(27 + 1 - 409 / 2)


def test_two_halves_of_one_set_have_none_within_the_error_bar():
    found = distance(features(600, 32, seed=0), features(600, 32, seed=1), subset_size=100)
    error = found["kid_std"] / 6**0.5  # 600 rows make some six subsets that do not overlap
    assert abs(found["kid"]) < 3 * error
    far = distance(features(600, 32, seed=0, shift=0.1), features(600, 32, seed=1))
    assert far["kid"] > 10 * error


def test_it_takes_nothing_from_the_common_generators():
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    distance(features(50, 8), features(60, 8, seed=1))
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_one_picture_is_refused():
    with pytest.raises(ValueError, match=r"at least; there are 1 generated and 5 real"):
        distance(torch.zeros(1, 4), torch.zeros(5, 4))
