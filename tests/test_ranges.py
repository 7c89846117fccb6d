"""Limits admit what they say, and say what they admit."""

import pytest

from ldm.ranges import Above, AtLeast, AtMost, Below, Between, Fits, Inside, Length


@pytest.mark.parametrize(
    "limit, within, outside, words",
    [
        (AtLeast(1), [1, 2.5], [0.999, -1], "of at least 1"),
        (Above(0), [1e-9, 3], [0, -1], "above 0"),
        (AtMost(1), [1, -7], [1.001], "of at most 1"),
        (Below(1), [0.999], [1, 2], "below 1"),
        (Between(0, 1), [0, 0.5, 1], [-0.001, 1.001], "from 0 to 1"),
        (Inside(0, 1), [0.001, 0.999], [0, 1], "between 0 and 1"),
        (Length(2), [[1, 2]], [[], [1], [1, 2, 3]], "of 2"),
        (Length(1, 2), [["a"], ["a", "b"]], [[], ["a", "b", "c"]], "of 1 to 2"),
        (Fits(str.isupper, "capitals"), ["AB"], ["Ab", ""], "capitals"),
    ],
)
def test_a_limit_admits_what_lies_within(limit, within, outside, words):
    assert all(limit.admits(value) for value in within)
    assert not any(limit.admits(value) for value in outside)
    assert str(limit) == words
