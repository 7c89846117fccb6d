"""`ldm prepare`: any source of captioned pictures -> checked image shards."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.build import build
from ldm.apps.errors import UserError
from ldm.apps.machine import usable_cores
from ldm.apps.progress import Bar
from ldm.apps.schema.parts import constructor, settings_taken
from ldm.data import bad_samples
from ldm.data.preparing.picture_rules import PictureRules
from ldm.data.preparing.prepare import Preparing
from ldm.data.preparing.prepare import prepare as prepare_shards
from ldm.data.preparing.settle import DUPLICATES_FILE
from ldm.manifest import Manifest, read_manifest

_STEPS = {"prepare": "prepare ({})", "join": "write shards ({})"}
_MOST_PROCESSES = 8  # by default; decoding seldom gains from more, for want of disk or memory


def prepare(config: DictConfig) -> int:
    """Write the shards, or say that they are there already."""
    out = Path(config.out)
    source, rules, preparing = parts(config.data)
    steps = prepare_shards(
        source,
        rules,
        preparing,
        out,
        processes=config.processes or min(usable_cores(), _MOST_PROCESSES),
    )
    bars: dict[str, Bar] = {}
    try:
        for state in steps:
            if state.step not in bars:
                name = _STEPS[state.step].format(out)
                bars[state.step] = Bar(name, state.total, start=state.done)
            bars[state.step].update(state.done, f"{state.bad} left out" if state.bad else "")
    finally:
        for bar in bars.values():
            bar.close()
    train = read_manifest(out, kind="shards")
    held_out = read_manifest(out / "held_out", kind="shards").facts["num_samples"]
    done = "prepared" if bars else "is prepared already:"
    captions = train.settings.get("captions")  # a way to find them, or columns
    of_them = "" if captions is None else f", captions: {_in_words(captions)}"
    print(f"{out} {done} {train.facts['num_samples']} pictures, {held_out} held out{of_them}")
    if bars:
        _say_what_was_left_out(train, out)
    return 0


def parts(data: DictConfig) -> tuple[Any, PictureRules, Preparing]:
    """Source, rules and the rest, each with those settings of ``data`` that it takes."""
    target = constructor("data", str(data["_target_"]))
    settings: dict[Any, Any] = OmegaConf.to_container(data, resolve=True)  # type: ignore[assignment]

    def taken(by: Any) -> dict[str, Any]:
        return {name: settings[name] for name in settings_taken(by) if name in settings}

    try:
        rules, preparing = PictureRules(**taken(PictureRules)), Preparing(**taken(Preparing))
    except ValueError as error:
        raise UserError(str(error)) from error
    own = OmegaConf.create({"_target_": data["_target_"], **taken(target)})
    return build(own), rules, preparing


def _in_words(captions: str | list[str]) -> str:
    return captions if isinstance(captions, str) else ", ".join(captions) or "none"


def _say_what_was_left_out(train: Manifest, out: Path) -> None:
    facts = train.facts
    for name, what in (("bad", "could not be used"), ("filtered", "were filtered out")):
        if found := facts[name]:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in found.items())
            print(f"{sum(found.values())} {what}: {reasons}")
    if facts["bad"] or facts["filtered"]:
        print(f"{out / bad_samples.FILE_NAME} names each with its reason")
    exact, near, across, left_out = (
        facts["duplicates"][name] for name in ("exact", "near", "across_splits", "left_out")
    )
    if exact or near:
        print(
            f"duplicates: {exact} exact, {near} near, {across} of them across the splits; "
            f"{left_out} left out. {out / DUPLICATES_FILE} names them"
            + (", data.duplicates=exact|near leaves them out" if not left_out else "")
        )
