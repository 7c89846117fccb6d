"""The words of a command line: those that are taken literally, and those in Hydra's grammar."""

import os
import re
from collections.abc import Iterable, Sequence

from ldm.apps.errors import UserError

OPTIONAL = ("image", "mask", "like", "prompt_to")  # nothing, or a bare null, is none of them
_FILES = ("image", "mask", "like")  # of them, where ~ means a home directory
LITERAL = ("prompt", "negative", *OPTIONAL)


def split_words(command: str, words: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    """The words that are taken literally, by key, and those in Hydra's grammar.

    Those of ``like=FILE`` come first, so that the others are stronger.
    """
    literal, overrides = _split_literal(words)
    literal |= {k: os.path.expanduser(literal[k] or "") for k in _FILES if literal.get(k)}
    like = literal.get("like")
    if command == "sample" and like is not None:
        from ldm.apps.like import recalled

        literal, overrides = recalled(like, literal, overrides)
    _require_text([*(f"{key}={value}" for key, value in literal.items()), *overrides])
    return literal, overrides


def _split_literal(arguments: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    literal: dict[str, str | None] = {}
    overrides = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in LITERAL:
            literal[key] = None if key in OPTIONAL and value in ("", "null") else value
        elif argument.startswith("-"):
            raise UserError(
                f"option {argument!r} is unknown; settings are written key=value, and the options "
                "are --help, --config-dir DIR and, for train and evaluate, -m."
            )
        elif not equals and not argument.startswith("~"):
            raise UserError(f"{argument!r} is no setting; settings are written key=value.")
        else:
            overrides.append(quoted(argument))
    return literal, overrides


def quoted(argument: str) -> str:
    """The argument with its value in quotes where that holds an equals sign or ~, as paths may.

    Hydra's grammar knows neither outside of quotes, and an equals sign in brackets and functions.
    """
    key, _, value = argument.partition("=")
    if ("=" in value or "~" in value) and not re.match(r"""['"\[{]|\w+\(""", value):
        return f"{key}='" + value.replace("'", "\\'") + "'"
    return argument


def _require_text(words: Iterable[str]) -> None:
    """UserError for bytes that are no text, which could not be printed or written later."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            shown = word.encode(errors="backslashreplace").decode()
            raise UserError(
                f"{shown} is not valid UTF-8. Type it in a terminal that is set to UTF-8; rename a "
                "file that has such a name."
            ) from error
