"""What annotations allow, and the words for it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from torch import Tensor

from ldm.apps.schema.annotation import Part, fits, hint, is_optional, is_part, is_plain, wanted
from ldm.ranges import Count, Fits, Length, Positive, Share


@dataclass
class Group:
    """Some settings."""

    size: int


@pytest.mark.parametrize(
    "annotation, right, wrong",
    [
        (int, [0, -3], [1.0, True, "1", None]),
        (float, [1, 0.5], [True, "1", None, math.inf, math.nan]),
        (bool, [True, False], [0, "true", None]),
        (str, ["", "a"], [1, True, None]),
        (Count, [1], [0, 1.0, True]),
        (Positive | None, [0.1, None], [0, -1]),
        (Literal["a", 2, None], ["a", 2, None], ["b", 2.0, "2"]),
        (Literal[1], [1], [True]),
        (Sequence[Share], [[], [0, 1]], [[2], 0.5, "ab"]),
        (Annotated[Sequence[int], Length(2)], [[1, 2]], [[1], [1, 2, 3], ["a", "b"]]),
        (Mapping[str, int], [{}, {"a": 1}], [[], "a"]),
        (Group, [{"size": 1}], [1, "size"]),
        (Any, [None, 1, "a", []], []),
    ],
)
def test_values_that_fit(annotation, right, wrong):
    assert [value for value in right if not fits(annotation, value)] == []
    assert [value for value in wrong if fits(annotation, value)] == []


@pytest.mark.parametrize(
    "annotation, words",
    [
        (Count, "a whole number of at least 1"),
        (Positive | None, "a number above 0 or null"),
        (Literal["a", None], "one of a, null"),
        (Sequence[str], "a list of texts"),
        (Annotated[Sequence[Count], Length(2)], "a list of 2, each a whole number of at least 1"),
        (Annotated[str, Fits(str.isupper, "capitals")], "capitals"),
        (bool | str, "true or false or text"),
        (Mapping[str, Part], "a table of names and values"),
        (Group, "a group of settings"),
        (Part, "a group of settings with a _target_"),
    ],
)
def test_the_words_for_what_is_wanted(annotation, words):
    assert wanted(annotation) == words


def test_a_hint_says_how_to_write_a_value_that_is_meant_right():
    assert hint(Count, 2.0) == " Write 2."
    assert hint(str, 64) == " Put it in quotes."
    assert hint(Sequence[int], 3) == " Write [3]."
    assert hint(Count, "many") == ""
    assert hint(Count, 0.0) == ""


def test_what_a_configuration_can_say():
    assert all(map(is_plain, (int, Count, int | None, Sequence[str], Group, Literal["a"], Any)))
    assert not any(map(is_plain, (Tensor, Callable[[], int], int | Tensor)))
    assert is_part(Tensor) and is_part(Part)
    assert not any(map(is_part, (int, Group, Mapping, Any)))


def test_where_null_is_allowed():
    assert all(map(is_optional, (int | None, Literal["a", None], None)))
    assert not any(map(is_optional, (int, Literal["a"], Sequence[int | None])))
