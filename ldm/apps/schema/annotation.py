"""What a type annotation allows in a configuration, and how that is said."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

from ldm.ranges import Fits


class Part:
    """A group of settings with a ``_target_``: what is made by the constructor that it names."""


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, or the one that there is."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(a for each in get_args(annotation) for a in alternatives(each))
    return (annotation,)


def is_optional(annotation: Any) -> bool:
    """Whether null is allowed."""
    each = alternatives(annotation)
    names = [name for one in each if get_origin(one) is Literal for name in get_args(one)]
    return any(value is None or value is NoneType for value in (*each, *names))


def is_described(annotation: Any) -> bool:
    """Whether it lists settings by name: a dataclass, or a TypedDict."""
    return is_typeddict(annotation) or (isinstance(annotation, type) and is_dataclass(annotation))


def is_mapping(annotation: Any) -> bool:
    """Whether it is a table with names of the user's own."""
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Mapping) and not is_typeddict(annotation)


def is_list(annotation: Any) -> bool:
    """Whether it is a list of things alike."""
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def is_part(annotation: Any) -> bool:
    """Whether it is something to be made: any class that is not one of plain values."""
    plain = annotation in (int, float, bool, str, NoneType, Any)
    return isinstance(annotation, type) and not (
        plain or is_described(annotation) or is_mapping(annotation)
    )


def is_plain(annotation: Any) -> bool:
    """Whether a configuration can give such a value: not a function, tensor or stream."""
    base = _base(annotation)
    if get_origin(base) in (Union, UnionType):
        return all(is_plain(each) for each in alternatives(base))
    known = base in (int, float, bool, str, None, NoneType, Any) or get_origin(base) is Literal
    return known or is_list(base) or is_mapping(base) or is_described(base)


def fits(annotation: Any, value: Any) -> bool:
    """Whether a value of a configuration (plain Python) is what the annotation says.

    Of mappings only that they are some; what is in them is looked at one by one.
    """
    if annotation is Any:
        return True
    if get_origin(annotation) is Annotated:
        base, *limits = get_args(annotation)
        return fits(base, value) and all(limit.admits(value) for limit in limits)
    if get_origin(annotation) in (Union, UnionType):
        return any(fits(each, value) for each in get_args(annotation))
    if get_origin(annotation) is Literal:
        return any(value == each and type(value) is type(each) for each in get_args(annotation))
    if annotation is None or annotation is NoneType:
        return value is None
    if annotation is float:  # a number that is none, or has no end, trains nothing
        return _is_number(value, int | float) and math.isfinite(value)
    if annotation is int:
        return _is_number(value, int)
    if annotation in (bool, str):
        return isinstance(value, annotation)
    if is_list(annotation):
        items = get_args(annotation)[:1] or (Any,)
        return isinstance(value, list) and all(fits(items[0], each) for each in value)
    assert isinstance(annotation, type) or is_mapping(annotation), annotation
    return isinstance(value, Mapping)


def wanted(annotation: Any) -> str:
    """What the annotation allows, in words that end "it must be ..."."""
    if get_origin(annotation) is Annotated:
        base, *limits = get_args(annotation)
        special = [str(limit) for limit in limits if isinstance(limit, Fits)]
        said = " and ".join(map(str, limits))
        kind, comma, item = wanted(base).partition(", ")
        return special[0] if special else f"{kind} {said}{comma}{item}"
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(wanted, get_args(annotation))))
    if get_origin(annotation) is Literal:
        names = ["null" if each is None else str(each) for each in get_args(annotation)]
        return "one of " + ", ".join(names) if len(names) > 1 else names[0]
    if is_list(annotation):
        item = get_args(annotation)[0]
        return "a list of texts" if item is str else f"a list, each {wanted(item)}"
    if is_mapping(annotation):
        return "a table of names and values"
    if is_described(annotation):
        return "a group of settings"
    if isinstance(annotation, type) and annotation not in _WORDS:
        return "a group of settings with a _target_"
    return _WORDS[annotation]


_WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text",
    NoneType: "null", None: "null", Any: "anything",
}  # fmt: skip


def hint(annotation: Any, value: Any) -> str:
    """What to write instead, where a value is right but for how it is written; or nothing."""
    if isinstance(value, float) and value.is_integer() and fits(annotation, int(value)):
        return f" Write {int(value)}."
    is_number = isinstance(value, int | float)
    if is_number and not isinstance(value, bool) and fits(annotation, str(value)):
        return " Put it in quotes."
    if isinstance(value, str | int | float) and fits(annotation, [value]):
        return f" Write [{value}]."
    return ""


def _base(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
