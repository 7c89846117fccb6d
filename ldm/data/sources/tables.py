"""Rows of Arrow tables, taken apart one by one, so that what is broken in one costs that one."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_PICTURE_BYTES = 1 << 30


def columns_read(schema: Any, used: Sequence[str]) -> list[str]:
    """The ``used`` columns of an Arrow schema, and those of single texts, numbers and truths."""
    return [field.name for field in schema if field.name in used or _is_single(field.type)]


def row_of(table: Any, row: int) -> dict[str, Any]:
    """The values of a row of an Arrow table or batch; ValueError names a column that has none."""
    values = {}
    for name, column in zip(table.schema.names, table.columns, strict=True):
        try:
            values[name] = column[row].as_py()
        except Exception as error:  # no UTF-8, a time beyond the calendar, ...
            raise ValueError(f"column {name} cannot be read") from error
    return values


def picture_of(value: Any, folder: str) -> bytes:
    """The bytes of a picture: as they are, in {bytes, path}, or in a file below ``folder``.

    ValueError with the reason that counts the record as bad.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError("no picture")
    if "://" in folder:
        raise ValueError("a path, which a remote table cannot have")
    try:
        path = os.path.join(folder, value)
        if os.path.relpath(path, folder).split(os.sep)[0] == os.pardir:
            raise ValueError("path leads out of the folder of its table")
        found = os.stat(path)
    except OSError as error:
        raise ValueError("cannot be opened") from error
    if not stat.S_ISREG(found.st_mode):  # a device has no end, and a pipe no beginning
        raise ValueError("path of no regular file")
    if found.st_size > MAX_PICTURE_BYTES:
        raise ValueError("picture above 1 GB")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError("cannot be opened") from error


def _is_single(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating)
    return any(test(kind) for test in (*tests, types.is_boolean, types.is_null))
