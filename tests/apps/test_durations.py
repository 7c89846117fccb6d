"""Lengths of time as schedulers write them."""

import pytest

from ldm.apps.durations import is_duration, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:00:10", 10), ("23:30:00", 84600), ("2-12:00:01", 216001), ("100:00:00", 360000)],
)
def test_a_duration_in_seconds(text, seconds):
    assert is_duration(text) and seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["10", "10:00", "1:60:00", "1-2", "-1:00:00", "", 84600, None])
def test_what_is_none(text):
    assert not is_duration(text)
    if isinstance(text, str):
        with pytest.raises(ValueError, match="is no time"):
            seconds_of(text)
