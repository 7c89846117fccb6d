"""Mistakes a user can make, told in one place: what was found, what is allowed, what to type."""

import difflib
import errno
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what was asked; printed as its message, without a traceback."""


def suggestion(word: str, known: Iterable[str], count: int = 3) -> str:
    """ "Did you mean ...?" for the closest known words, or the list when none is close.

    All that are one letter away are among them, however short the word.
    """
    known = sorted(set(known))
    near = [other for other in known if is_one_letter_off(word, other)]
    close = [*near, *difflib.get_close_matches(word, known, n=count, cutoff=0.6)]
    close = list(dict.fromkeys(close))[: max(count, len(near))]
    if close:
        return f"Did you mean {' or '.join(repr(c) for c in close)}?"
    shown = ", ".join(known[:30]) + (", ..." if len(known) > 30 else "")
    return f"Known: {shown}." if known else ""


def is_one_letter_off(word: str, other: str) -> bool:
    """Whether one letter more, less, changed, or two neighbours swapped make one of the other."""
    if abs(len(word) - len(other)) > 1 or word == other:
        return False
    begin = 0
    while word[begin : begin + 1] == other[begin : begin + 1] != "":
        begin += 1
    one, two = word[begin:], other[begin:]
    if one[:2] == two[1::-1] and one[2:] == two[2:]:
        return True
    return one[1:] == two[1:] or one[1:] == two or one == two[1:]


def in_words(error: Exception) -> str | None:
    """What a user is told of an error; None where it is no mistake or want of theirs."""
    text = str(error)
    if text.startswith("Caught "):  # in a loader process: torch passes on all of its traceback
        last = text.strip().rpartition(f"\n{type(error).__name__}: ")[2]
        return last if isinstance(error, ValueError | OSError) else None
    if isinstance(error, ValueError):
        return text  # below the apps, a mistake in settings or inputs is one with a remedy
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            return f"no space left on the disk ({error.filename or 'while writing'})."
        return f"{error.filename}: {error.strerror}." if error.filename is not None else None
    if isinstance(error, RuntimeError) and "exited unexpectedly" in text:
        return (
            "a process that loads data was killed, perhaps because memory was full. Set fewer "
            "data.workers."
        )
    if isinstance(error, RuntimeError) and (
        "out of memory" in text.lower() or "can't allocate" in text
    ):
        return (
            "out of memory. Set a smaller micro_batch, e.g. micro_batch=4 (the global_batch "
            "stays; stage text_encoder needs a smaller global_batch), or a smaller block= when "
            "sampling."
        )
    return None
