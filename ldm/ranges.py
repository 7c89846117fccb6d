"""What values a setting may take: limits for ``Annotated``, and the types made of them.

``Annotated[int, AtLeast(1)]`` is an int to Python and to type checkers. Where a configuration
gives it to a constructor, a number below 1 is refused, in words, before anything is built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol


class Limit(Protocol):
    """Narrows a type; its ``str`` is what to say behind "a number" or "a list"."""

    def admits(self, value: Any) -> bool:
        """Whether a value, of the right type already, lies within."""
        ...


@dataclass(frozen=True)
class AtLeast:
    """Numbers from ``low`` on."""

    low: float

    def admits(self, value: Any) -> bool:
        return bool(value >= self.low)

    def __str__(self) -> str:
        return f"of at least {self.low:g}"


@dataclass(frozen=True)
class Above:
    """Numbers larger than ``low``."""

    low: float

    def admits(self, value: Any) -> bool:
        return bool(value > self.low)

    def __str__(self) -> str:
        return f"above {self.low:g}"


@dataclass(frozen=True)
class AtMost:
    """Numbers up to ``high``."""

    high: float

    def admits(self, value: Any) -> bool:
        return bool(value <= self.high)

    def __str__(self) -> str:
        return f"of at most {self.high:g}"


@dataclass(frozen=True)
class Below:
    """Numbers smaller than ``high``."""

    high: float

    def admits(self, value: Any) -> bool:
        return bool(value < self.high)

    def __str__(self) -> str:
        return f"below {self.high:g}"


@dataclass(frozen=True)
class Between:
    """Numbers from ``low`` to ``high``, both included."""

    low: float
    high: float

    def admits(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Inside:
    """Numbers between ``low`` and ``high``, which are themselves left out."""

    low: float
    high: float

    def admits(self, value: Any) -> bool:
        return bool(self.low < value < self.high)

    def __str__(self) -> str:
        return f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class Length:
    """Lists of ``low`` to ``high`` entries; without ``high`` of just ``low``."""

    low: int
    high: int | None = None

    def admits(self, value: Any) -> bool:
        return self.low <= len(value) <= (self.high or self.low)

    def __str__(self) -> str:
        return f"of {self.low}" + (f" to {self.high}" if self.high else "")


@dataclass(frozen=True)
class Fits:
    """Values that pass a test which ``words`` describe."""

    test: Callable[[Any], bool]
    words: str

    def admits(self, value: Any) -> bool:
        return self.test(value)

    def __str__(self) -> str:
        return self.words


Count = Annotated[int, AtLeast(1)]
"""How many of something there must be: steps, channels, processes."""
Natural = Annotated[int, AtLeast(0)]
"""Whole numbers from 0 on: seeds, positions, what may be none."""
Positive = Annotated[float, Above(0)]
NonNegative = Annotated[float, AtLeast(0)]
Share = Annotated[float, Between(0, 1)]
"""A part of a whole: none of it at 0, all at 1."""
Fraction = Annotated[float, Inside(0, 1)]
"""A part of a whole: never none of it, and never all."""
Decay = Annotated[float, AtLeast(0), Below(1)]
"""How much of a running average stays at each step."""
