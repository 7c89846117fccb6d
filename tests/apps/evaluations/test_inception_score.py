"""The Inception score as a measure, which needs no reference."""

import pytest

from ldm.apps.evaluations.inception_score import score_of
from tests.apps.evaluations.pixels import Pixels, given, numbers, pictures


def test_it_is_of_the_samples_alone():
    sets = given(samples=pictures(40))
    measure = score_of(sets, Pixels(), splits=4)
    assert list(measure.observers) == ["samples"]
    found = numbers(measure, sets)
    assert 1 < found["inception_score"].value < 12
    assert found["inception_score_std"].protocol["splits"] == 4
    with pytest.raises(ValueError, match="40 pictures cannot be taken in 41 parts"):
        score_of(sets, Pixels(), splits=41)
    with pytest.raises(ValueError, match="splits of at least 1, not 0"):
        score_of(sets, Pixels(), splits=0)
