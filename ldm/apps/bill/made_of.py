"""The bill of a run while it trains, and that of any finished artefact."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.bill.bill import EVALUATION, FILE, Bill, in_words, read_bill, sums
from ldm.apps.bill.inherited import inherited, of_artefact, of_training
from ldm.apps.bill.learned_by import learned_by
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, parts_at
from ldm.manifest import known_manifest, read_json, write_json
from ldm.weights import TABLE

_NUMBERS = ("evaluation.json", "metrics.json")  # of training, of `ldm evaluate`
_PARTS = ("unet", "vae", "text_encoder")


def write_bill(
    config: DictConfig, inputs: Mapping[str, Mapping[str, str]], directory: Path, *, goes_on: bool
) -> None:
    """Write that of the run in ``directory``, which is begun from ``inputs``.

    Where it ``goes_on``, what taught it until now remains, whatever its settings have become.
    """
    kind = f"run_{config.stage}"
    bills = [of_training(kind, learned_by(config))]
    bills += [inherited(name, entry, in_words(kind)) for name, entry in inputs.items()]
    if goes_on and (directory / FILE).is_file():
        bills.append(read_bill(directory / FILE))
    write_json(directory / FILE, sums(bills).as_json())


def complete_bill(directory: Path) -> None:
    """Add to the bill of a run the networks through which its numbers were measured.

    The rest stays as it was found at the beginning: inputs may be gone by now.
    """
    known = read_bill(directory / FILE)
    write_json(directory / FILE, sums([known, evaluated_by(directory)]).as_json())


def bill_at(path: str) -> Bill:
    """That of a run, recipe, model folder, cache or shards; UserError where nothing is there."""
    root = Path(path)
    place, manifest = root, known_manifest(root)
    if manifest is None and (root / FILE).is_file():  # of a run that is not finished
        return sums([read_bill(root / FILE), evaluated_by(root)])
    if manifest is None:
        part = next(iter(parts_at(path, _PARTS)), "unet")
        folder = model_folder(path, part)
        place, manifest = folder.parent, known_manifest(folder.parent)
        if manifest is None:
            raise UserError(
                f"{folder} has no manifest beside it, so nobody knows what it was made of; name "
                "the run that it belongs to."
            )
    return sums([of_artefact(place, manifest), evaluated_by(place), evaluated_by(root)])


def evaluated_by(directory: Path) -> Bill:
    """The networks through which the numbers in a directory were measured."""
    parts = []
    for name in _NUMBERS:
        if (directory / name).is_file():
            parts += [*_looked_through(read_json(directory / name))]
    return sums([Bill(parts, [])])


def _looked_through(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for item in node:
            yield from _looked_through(item)
    if not isinstance(node, Mapping):
        return
    if file := node.get("weights_file"):
        known = next((p for p in TABLE.values() if file in [f.path for f in p.files]), None)
        yield {
            "name": known.name if known else str(file),
            "file": file,
            "sha256": node.get("weights_sha256"),
            "licence": known.licence if known else "unknown",
            "trained_on": known.trained_on if known else "unknown",
            "role": f"{EVALUATION}: {known.role if known else 'metrics'}",
            "for": ["metrics"],
        }
    for item in node.values():
        yield from _looked_through(item)
