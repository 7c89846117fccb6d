"""Whether a command goes on with the sweep that is in its directory, or is another sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.differences import FREE, Difference, differences
from ldm.apps.errors import UserError
from ldm.apps.sweeps.space import Dimension, Values
from ldm.apps.sweeps.study import Study

# Where the files of evaluations are; how trainings are run is told by ldm.apps.differences.
_PLACES = ("notes", "samples", "weights_dir", "accelerator", "devices")
_SETTINGS = "settings"  # of a study: what its trials have in common
_FILES = ("out", "notes", "samples", "run", "resume")  # settings that differ from job to job


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


def require_same_search(
    study: Study, root: Path, config: DictConfig, objective: str, space: Sequence[Dimension]
) -> None:
    """UserError where the trials of a study had other settings than those to come would have.

    ``config`` is that of any job. A new study keeps it.
    """
    # Ends of intervals may move: a study does not mind, other than with values in no order.
    values = {d.key: list(d.words) for d in space if isinstance(d, Values)}
    plain: Any = OmegaConf.to_container(config, resolve=True)
    now = {key: value for key, value in plain.items() if key not in _FILES}
    before = study.noted(_SETTINGS)
    if before is None:
        asked = {"objective": objective, "kinds": study.kinds, "values": values}
        study.note(_SETTINGS, asked | {"config": now})
        return
    kinds: dict[str, str] = before.get("kinds", study.kinds)  # earlier versions have none
    if before["objective"] != objective or before["values"] != values or kinds != study.kinds:
        over = ", ".join(
            f"{key}={','.join(before['values'][key])}" if key in before["values"] else key
            for key in kinds
        )
        drawn = ", ".join(
            f"{key} as {kind}, not {study.kinds[key]}"
            for key, kind in kinds.items()
            if kind != study.kinds.get(key, kind)
        )
        raise UserError(
            f"{root} holds a search for {before['objective']} over {over}"
            + (f" ({drawn})" if drawn else "")
            + ". Give the same to go on with it, or another sweep_dir=."
        )
    others = [
        str(difference)
        for difference in differences(before["config"], now)
        if decides(difference)
        and not any(f"{difference.key}.".startswith(f"{key}.") for key in kinds)
    ]
    if others:
        raise UserError(
            f"{root} holds a search whose trials had other settings ({'; '.join(others[:5])}). "
            "Give the same to go on with it, or another sweep_dir=."
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
