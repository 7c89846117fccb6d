"""Urls without what lets one in, for files that are kept, shown and passed on."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# Up to the last @, for passwords may have some; behind a user's colon also slashes.
_USER = re.compile(r"(?<=://)(?:[^/\s]*|[^/\s:]+:[^\s?'\"]*)(?=@)")
# Tokens and signatures; a question mark of a pattern is followed by no equals sign.
_QUERY = re.compile(r"(://[^\s?'\"]*\?)[^\s'\"\])}]*=[^\s'\"\])}]*")


def without_credentials(value: Any) -> Any:
    """A text whose urls have lost user, password and query; of lists and mappings, each text."""
    if isinstance(value, str):
        return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(HIDDEN, value))
    if isinstance(value, Mapping):
        return {key: without_credentials(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_credentials(item) for item in value]
    return value
