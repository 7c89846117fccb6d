"""The kernel distance as a measure: names, what is recorded, what is refused."""

import numpy as np
import pytest

from ldm.apps.evaluations.kernel_distance import kernel_distance
from ldm.metrics.statistics import read_statistics
from tests.apps.evaluations.pixels import Pixels, given, numbers, pictures


def test_the_value_and_its_deviation_say_how_they_were_drawn():
    sets = given(samples=pictures(40, shift=0.3), reference=pictures(50, seed=1))
    measure = kernel_distance(sets, "kid_own", Pixels(), subsets=10, subset_size=1000)
    found = numbers(measure, sets)
    assert list(found) == ["kid_own", "kid_own_std"]
    assert found["kid_own"].value > 5 * found["kid_own_std"].value > 0
    drawn = {key: found["kid_own"].protocol[key] for key in ("subsets", "subset_size")}
    assert drawn == {"subsets": 10, "subset_size": 40}


def test_a_reference_without_features_is_refused_with_the_reason(tmp_path):
    np.savez(tmp_path / "a.npz", mu=np.zeros(12), sigma=np.eye(12))
    sets = given(read_statistics(tmp_path / "a.npz"), samples=pictures(40))
    with pytest.raises(ValueError, match="only mean and covariance.*every picture's features"):
        kernel_distance(sets, "kid", Pixels(), subsets=10, subset_size=1000)


def test_one_picture_is_refused_before_anything_is_made():
    sets = given(samples=pictures(1), reference=pictures(9))
    with pytest.raises(ValueError, match="1 generated and 9 real"):
        kernel_distance(sets, "kid", Pixels(), subsets=10, subset_size=1000)


@pytest.mark.parametrize("subsets, subset_size", [(0, 1000), (10, 1), (10, 0)])
def test_settings_without_a_number_are_refused_before_anything_is_made(subsets, subset_size):
    sets = given(samples=pictures(9), reference=pictures(9))
    told = f"{subsets} draws of {subset_size} pictures: subsets is at least 1.*at least 2"
    with pytest.raises(ValueError, match=told):
        kernel_distance(sets, "kid", Pixels(), subsets=subsets, subset_size=subset_size)
