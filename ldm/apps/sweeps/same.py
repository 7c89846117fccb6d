"""Whether a command goes on with the sweep that is in its directory, or is another sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ldm.apps.differences import FREE, Difference, differences
from ldm.apps.errors import UserError

# Where the files of evaluations are; how trainings are run is told by ldm.apps.differences.
_PLACES = ("notes", "samples", "weights_dir", "accelerator", "devices")


def decides(difference: Difference) -> bool:
    """Whether trainings that differ in this have other numbers, which must not be mixed."""
    length_or_judging = difference.key.startswith(("max_steps", "max_images", "evalua", "metrics"))
    return difference.kind != FREE or length_or_judging


def require_same(
    root: Path, before: Mapping[str, Any], now: Mapping[str, Any], varied: Sequence[str]
) -> None:
    """UserError where a ledger's head and jobs are not those of a command, but for more values.

    What a ledger of an earlier version does not say is not asked.
    """
    known = keys_of(before["jobs"][0])
    same = all(before.get(key, now[key]) == now[key] for key in ("command", "method"))
    if not same or sorted(known) != sorted(varied):
        method = {"grid": "a grid"}.get(now["method"], f"a search (sweep={now['method']})")
        other = {"grid": "a grid"}.get(before.get("method", ""), "a search")
        raise UserError(
            f"{root} holds {other} of `ldm {before['command']}` over {', '.join(known)}, and this "
            f"is {method} over {', '.join(varied)}. Give the same to go on with it, or another "
            "sweep_dir=."
        )
    told = before.get("fixed", now["fixed"])
    if others := _others(now["command"], _by_key(told), _by_key(now["fixed"])):
        raise UserError(
            f"{root} holds a sweep whose jobs had other settings ({'; '.join(others)}). Give the "
            "same to go on with it, or another sweep_dir=."
        )


def keys_of(job: Mapping[str, Any]) -> list[str]:
    """The settings that a job of a ledger has of those that were varied, in their order."""
    return [key for key, _ in job["settings"]]


def _others(command: str, before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The settings that were typed, and are typed otherwise now, each in words."""
    return [
        f"{d.key}: {d.before or 'not given'} -> {d.now or 'not given'}"
        for d in differences(before, now)
        if (decides(d) if command == "train" else d.key not in _PLACES)
    ]


def _by_key(words: Sequence[str]) -> dict[str, str]:
    """Words by their key; the last of several counts."""
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}
