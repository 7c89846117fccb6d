"""Lengths of time as schedulers write them: "HH:MM:SS" and "D-HH:MM:SS"."""

import re
from typing import Any

_PARTS = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")


def is_duration(value: Any) -> bool:
    """Whether ``seconds_of`` can read this."""
    return isinstance(value, str) and _PARTS.fullmatch(value) is not None


def seconds_of(duration: str) -> int:
    """Seconds of a duration; ValueError for another text."""
    found = _PARTS.fullmatch(duration)
    if found is None:
        raise ValueError(f'{duration!r} is no time such as "23:30:00" or "2-12:00:00".')
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
