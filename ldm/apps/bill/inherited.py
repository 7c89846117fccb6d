"""What the inputs of an artefact were made of, by their manifests and the bills beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldm.apps.bill.bill import FILE, FROZEN, INIT, UNKNOWN, Bill, in_words, read_bill, sums
from ldm.apps.bill.learned_by import vocabulary
from ldm.apps.locate import input_folder
from ldm.data.shards.files import shard_files
from ldm.manifest import Manifest, known_manifest

_OWN_SOURCES = {
    "shapes": "none needed: drawn by ldm",
    "digits": "CC BY 4.0 (UCI; scikit-learn carries them)",
}
_SHARDS, _ASKED = "shards", "request"  # the latter is what an export was asked for


def inherited(name: str, entry: Mapping[str, str], used_for: str) -> Bill:
    """That of one input: its name in a manifest, its path and fingerprint, and what is made of it.

    What nobody knows the origin of is on the bill as such: it may be anybody's.
    """
    if name == _SHARDS:
        return Bill([], [_data(entry["path"], entry["fingerprint"], used_for)])
    folder = Path(entry["path"])
    places = {place: known_manifest(place) for place in (folder, folder.parent)}
    place, manifest = next((item for item in places.items() if item[1]), (folder, None))
    if manifest is None or manifest.kind == "run_import":
        return Bill([_foreign(name, entry, manifest, used_for)], [])
    return of_artefact(place, manifest)


def of_artefact(place: Path, manifest: Manifest) -> Bill:
    """That of a run, a cache or shards at ``place``; its own file of it wins, which may know more.

    For what lay beside it when it was made may be gone.
    """
    if manifest.kind == _SHARDS:
        return Bill([], [_data(str(place), manifest.fingerprint, "")])
    if (place / FILE).is_file():
        return read_bill(place / FILE)
    return of_inputs(place, manifest)


def of_inputs(place: Path, manifest: Manifest) -> Bill:
    """The same by its manifest and what that names, with no look at an earlier bill of it."""
    if manifest.kind == "run_import":
        return Bill([_foreign("model", {"fingerprint": ""}, manifest, "")], [])
    used_for = in_words(manifest.kind)
    bills = [of_training(manifest.kind, manifest.facts.get("pretrained", {}))]
    for name in filter(lambda name: name != _ASKED, manifest.inputs):
        path = manifest.inputs[name]["path"]
        where = path if "://" in path else str(input_folder(manifest.inputs, name, place))
        bills.append(inherited(name, manifest.inputs[name] | {"path": where}, used_for))
    return sums(bills)


def of_training(kind: str, learned_by: Mapping[str, Mapping[str, Any]]) -> Bill:
    """What a run of a kind (run_autoencoder, ...) adds itself."""
    used_for = [in_words(kind)]
    own = [{"name": name, **part, "for": used_for} for name, part in learned_by.items()]
    if kind == "run_text_encoder":
        own.append(vocabulary() | {"for": used_for})
    return Bill(own, [])


def _foreign(
    name: str, entry: Mapping[str, str], manifest: Manifest | None, used_for: str
) -> dict[str, Any]:
    """Weights that were not trained here, or that nobody can tell were."""
    what = f"{FROZEN}: the {name.replace('_', ' ')}"
    common = {
        "trained_on": UNKNOWN,
        "role": f"{INIT}: the weights it began with" if name == "init" else what,
        "for": [used_for] if used_for else [],
    }
    if manifest is not None:
        source = str(manifest.settings.get("from"))
        return common | {
            "name": Path(source).name or source,
            "file": source,
            "fingerprint": manifest.inputs["source"]["fingerprint"],
            "licence": manifest.facts.get("licence") or UNKNOWN,
            "origin": f"imported from {source}",
        }
    there = Path(entry["path"]).exists()
    return common | {
        "name": Path(entry["path"]).name,
        "file": entry["path"],
        "fingerprint": entry["fingerprint"],
        "licence": UNKNOWN,
        "origin": f"{UNKNOWN}: "
        + ("no manifest beside it" if there else "it is not there any more"),
    }


def _data(path: str, fingerprint: str, used_for: str) -> dict[str, Any]:
    """Shards: how many samples, and how many of them under which licence."""
    entry: dict[str, Any] = {"source": UNKNOWN, "fingerprint": fingerprint}
    entry |= {"num_samples": None, "num_held_out": None, "licences": {}, "sources": {}}
    entry["for"] = [used_for] if used_for else []
    try:
        files = shard_files(path)
        manifest = files.contents()[1]
        held_out = files.held_out()
        aside = None if held_out is None else shard_files(held_out).contents()[1]
    except (ValueError, OSError):
        return entry  # gone, or out of reach
    if manifest.fingerprint != fingerprint:
        return entry  # others lie there now
    source, count = str(manifest.settings.get("source", UNKNOWN)), manifest.facts["num_samples"]
    licences = dict(manifest.facts.get("licences", {}))
    if rest := count - sum(licences.values()):
        licences[_OWN_SOURCES.get(source, UNKNOWN)] = rest
    return entry | {
        "source": source,
        "num_samples": count,
        "num_held_out": 0 if aside is None else aside.facts["num_samples"],
        "licences": licences,
        "sources": dict(manifest.facts.get("sources", {})),
    }
