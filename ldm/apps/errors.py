"""Mistakes a user can make, told in one place: what was found, what is allowed, what to type."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what was asked; printed as its message, without a traceback."""


def suggestion(word: str, known: Iterable[str], count: int = 3) -> str:
    """ "Did you mean ...?" for the closest known words, or the list when none is close."""
    known = sorted(set(known))
    close = difflib.get_close_matches(word, known, n=count, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(repr(c) for c in close)}?"
    shown = ", ".join(known[:30]) + (", ..." if len(known) > 30 else "")
    return f"Known: {shown}." if known else ""
