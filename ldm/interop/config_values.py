"""The values in a config file of other origin: of what kind they must be before they are used."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Kind = tuple[Callable[[Any], bool], str]


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _listed(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


COUNT: Kind = (_is_count, "a whole number above 0")
COUNTS: Kind = (
    lambda value: _is_count(value) or _listed(_is_count)(value),
    "a whole number above 0, or a list of these",
)
FLAG: Kind = (lambda value: isinstance(value, bool), "true or false")
NUMBER: Kind = (_is_number, "a finite number")
NUMBERS: Kind = (_listed(_is_number), "a list of finite numbers")
POSITIVE: Kind = (lambda value: _is_number(value) and value > 0.0, "a finite number above 0")
SHARE: Kind = (lambda value: _is_number(value) and 0.0 < value < 1.0, "between 0 and 1")
TEXT: Kind = (lambda value: isinstance(value, str), "a text")
TEXTS: Kind = (_listed(TEXT[0]), "a list of texts")


def optional(kind: Kind) -> Kind:
    """The same, or null."""
    fits, wanted = kind
    return lambda value: value is None or fits(value), f"{wanted}, or null"


def require(file: Path | str, config: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """ValueError for the first value that is there and of another kind than it must be."""
    for key, (fits, wanted) in kinds.items():
        if key in config and not fits(config[key]):
            raise ValueError(
                f"{file}: {key} = {config[key]!r}, but it must be {wanted}. Mend the file, or copy "
                "it again."
            )
