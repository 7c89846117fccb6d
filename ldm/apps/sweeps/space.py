"""What a sweep varies, in Hydra's grammar: a,b; choice(...); range(...); interval(...)."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from ldm.apps.errors import UserError
from ldm.apps.words import LITERAL, quoted

DIGITS = 4  # of a number that a search draws from an interval


class Values(NamedTuple):
    """A setting with its values, each as it is typed; ``numbers`` where they are evenly spaced."""

    key: str
    words: tuple[str, ...]
    numbers: range | None = None


class Interval(NamedTuple):
    """A setting between two ends, both included; ``log``: evenly over the orders of magnitude."""

    key: str
    low: float
    high: float
    whole: bool
    log: bool

    def word(self, value: float) -> str:
        """A value as it is typed, with few digits and within the ends."""
        if self.whole:
            return str(round(value))
        return repr(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))


Dimension = Values | Interval


def read_space(words: Sequence[str]) -> tuple[list[str], list[Dimension]]:
    """The words with one value, and what the others vary; UserError where nothing is varied."""
    read = [word for word in words if word.partition("=")[0] not in LITERAL]
    fixed = [word for word in words if word not in read]  # a prompt's commas are its own
    space: list[Dimension] = []
    parser = OverridesParser.create()
    for word in read:
        try:
            override = parser.parse_override(quoted(word))
        except HydraException as error:
            why = str(error).splitlines()[0].rstrip(".")
            raise UserError(f"{word} cannot be read: {why}.") from error
        if override.is_sweep_override():
            space.append(_dimension(word, override))
        else:
            fixed.append(word)
    if not space:
        raise UserError("-m sweeps over settings with several values, as in seed=1,2.")
    keys = [dimension.key for dimension in space]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"{twice[0]}= is varied twice; give it once, with all its values.")
    return fixed, space


def combinations(space: Sequence[Dimension]) -> list[tuple[str, ...]]:
    """Every choice of one value for each setting, as words; UserError for an interval."""
    for dimension in space:
        if isinstance(dimension, Interval):
            raise UserError(
                f"{dimension.key}=interval(...) has no end of values: a grid needs them named "
                f"({dimension.key}={dimension.low:g},{dimension.high:g}), a search does not "
                "(sweep=tpe, or sweep=random)."
            )
    return [tuple(choice) for choice in itertools.product(*map(_typed, space))]


def corners(space: Sequence[Dimension]) -> Iterator[tuple[str, ...]]:
    """The first values of all settings, and each other value (or end) of one beside them.

    What is wrong with any single value shows here, before a trial is made.
    """
    ends = [list(_typed(dimension)) for dimension in space]
    first = tuple(words[0] for words in ends)
    yield first
    for place, words in enumerate(ends):
        for word in words[1:]:
            yield (*first[:place], word, *first[place + 1 :])


def _typed(dimension: Dimension) -> Iterator[str]:
    if isinstance(dimension, Values):
        yield from (f"{dimension.key}={word}" for word in dimension.words)
    else:
        yield from (f"{dimension.key}={dimension.word(v)}" for v in (dimension.low, dimension.high))


def _dimension(word: str, override: Override) -> Dimension:
    value, key = override.value(), override.get_key_element()
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        assert low is not None and high is not None
        log = "log" in value.tags
        if not low < high or (log and not low > 0):
            wanted = "two ends, the lower one first" + (", and above 0 for log" if log else "")
            raise UserError(f"{word}: an interval has {wanted}.")
        return Interval(key, low, high, whole=isinstance(low, int), log=log)
    if isinstance(value, ChoiceSweep):
        words = tuple(map(str, override.sweep_string_iterator()))
        if twice := [each for each in words if words.count(each) > 1]:
            raise UserError(f"{word}: {twice[0]} is there twice; give each value once.")
        return Values(key, words)
    if isinstance(value, RangeSweep):
        typed = tuple(map(str, override.sweep_string_iterator()))
        if not typed:
            raise UserError(f"{word}: this range is empty (its end is not part of it).")
        start, stop, step = value.start, value.stop, value.step
        numbers = None
        if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
            numbers = range(start, stop, step) if step > 0 and not value.shuffle else None
        return Values(key, typed, numbers)
    raise UserError(f"{word}: a sweep takes a,b or choice(...), range(...) and interval(...).")
