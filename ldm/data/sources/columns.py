"""What columns of tables and of JSON give a record: captions and metadata."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def captions_of(values: Sequence[Any]) -> tuple[str, ...]:
    """The captions in these values, each a text, a list of texts, or None where there is none.

    ValueError with the reason that counts the record as bad: missing caption, or no text.
    """
    captions: list[str] = []
    for value in values:
        for caption in value if isinstance(value, list | tuple) else [value]:
            if caption is None:
                continue
            if not isinstance(caption, str):
                raise ValueError("caption is no text")
            captions.append(caption)
    if not captions:
        raise ValueError("missing caption")
    return tuple(captions)


def metadata_of(columns: Mapping[str, Any], without: Sequence[str]) -> dict[str, Any]:
    """The texts, numbers and truths of a row but for some columns; None for what is not finite."""
    kept = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in columns.items()
        if value is None or isinstance(value, str | int | float | bool)
    }
    return {name: value for name, value in kept.items() if name not in without}


def metadata_from_json(text: bytes) -> dict[str, Any]:
    """A JSON object; ValueError with the reason that counts the record as bad."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("metadata is not JSON") from error
    if not isinstance(value, dict):
        raise ValueError("metadata is no JSON object")
    return value
