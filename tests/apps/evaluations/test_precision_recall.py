"""Precision and recall as a measure."""

import pytest

from ldm.apps.evaluations.precision_recall import in_manifolds
from tests.apps.evaluations.pixels import Pixels, given, numbers, pictures


def test_collapsed_samples_are_precise_and_recall_little():
    real = pictures(200)
    sets = given(samples=real[:1].repeat(30, 1, 1, 1), reference=real)
    found = numbers(in_manifolds(sets, Pixels(), neighbours=3), sets)
    assert found["precision"].value == 1.0 and found["recall"].value <= 1 / 200
    assert found["recall"].protocol["neighbours"] == 3


@pytest.mark.parametrize("samples, reference, told", [(3, 9, "3 generated"), (9, 3, "3 real")])
def test_too_few_pictures_are_refused_before_anything_is_made(samples, reference, told):
    sets = given(samples=pictures(samples), reference=pictures(reference))
    with pytest.raises(ValueError, match=f"{told} pictures have no 3 neighbours"):
        in_manifolds(sets, Pixels(), neighbours=3)


def test_no_neighbours_are_refused_before_anything_is_made():
    sets = given(samples=pictures(9), reference=pictures(9))
    with pytest.raises(ValueError, match="neighbours of at least 1, not 0"):
        in_manifolds(sets, Pixels(), neighbours=0)
