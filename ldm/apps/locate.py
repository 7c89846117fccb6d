"""Where the parts of a model lie: in a recipe's directory, a run, or a model folder."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ldm.apps.credentials import without_credentials
from ldm.apps.errors import UserError
from ldm.interop.condition_encoders import PARTS, TEXT_ENCODERS, sdxl_settings
from ldm.interop.diffusers_vq_pipeline import VQ_PART, VQ_PIPELINE
from ldm.interop.pipeline import INDEX, OWN_PIPELINE
from ldm.manifest import file_hash, fingerprint, known_manifest, read_json

MAKES = {
    "unet": "`ldm train` with stage=diffusion",
    "vae": "`ldm train` with stage=autoencoder",
    "text_encoder": "`ldm train` with stage=text_encoder",
    "text_encoder_2": "`ldm train` with stage=text_encoder",
    "class_encoder": "`ldm train` with stage=diffusion, on latents cached with condition=classes,",
    "scheduler": "`ldm train` with stage=diffusion",
}


def model_folder(path: str, part: str) -> Path:
    """The model folder under ``path`` that holds ``part`` (unet, vae, text_encoder, ...).

    ``path`` may be a recipe's directory, a run directory or the folder itself. UserError naming
    what makes the part when it is not there.
    """
    root = Path(path)
    for place in _places(root):
        if _holds(place, part):
            return place
    if not root.is_dir():
        raise UserError(f"{path} does not exist; {MAKES[part]} makes the {part} looked for there.")
    made = known_manifest(root)
    kind, _, stage = ("" if made is None else made.kind).partition("_")
    if kind == "run" and f"stage={stage}" not in MAKES[part]:
        raise UserError(
            f"{path} is finished, of stage {stage}, and holds no {part}; {MAKES[part]} makes one."
        )
    if (root / "config.yaml").is_file():
        on_the_way = sorted((root / "models").glob("step_*"))
        other = f", or take {on_the_way[-1]}" if on_the_way else ""
        raise UserError(
            f"the run {path} is not finished: it has no model/{part} yet. Run its command again"
            f"{other}."
        )
    raise UserError(f"{path} holds no {part}; {MAKES[part]} makes one.")


def model_at_step(path: str | None, step: int) -> str:
    """The model that a run left on its way at a step (models_every=); UserError naming those."""
    if path is None:
        raise UserError(f"checkpoint={step} is a step of a run: name it by model=RUN.")
    roots = [Path(path), Path(path) / "diffusion"]
    found = {int(p.name.removeprefix("step_")): p for r in roots for p in r.glob("models/step_*")}
    if step not in found:
        there = ", ".join(map(str, sorted(found))) or "none; train with models_every=STEPS"
        raise UserError(
            f"checkpoint={step}: model={path} has no models/step_{step:09d}. There are: {there}."
        )
    return str(found[step])


def parts_at(path: str, parts: Iterable[str]) -> list[str]:
    """Those of ``parts`` that lie under ``path``."""
    return [part for part in parts if any(_holds(place, part) for place in _places(Path(path)))]


def is_unconditional(path: str) -> bool:
    """Whether there is a model at ``path`` that nothing conditions, as its index says."""
    indices = [place / INDEX for place in _places(Path(path)) if _holds(place, "unet")]
    if not indices or not indices[0].is_file():
        return False
    index = read_json(indices[0])
    return index.get("_class_name") == OWN_PIPELINE and not any(map(index.get, PARTS))


def _holds(place: Path, part: str) -> bool:
    # A recipe's directory has a run of the name text_encoder, which is no such part.
    return any((place / part).glob("*config.json"))


def _places(root: Path) -> list[Path]:
    if (root / VQ_PART).is_dir():
        raise UserError(
            f"{root} is laid out for diffusers' {VQ_PIPELINE}; make it a run first: ldm import "
            f"from={root} run=DIR"
        )
    return [root, root / "model", root / "diffusion" / "model"]


def part_input(path: str, part: str) -> dict[str, str]:
    """Path and fingerprint of a model part, for the manifest of what is made from it.

    The fingerprint is of the files' bytes, so it follows the part wherever it is copied.
    """
    folder = model_folder(path, part) / part
    files = [p for p in folder.iterdir() if p.suffix in (".json", ".safetensors")]
    if part in TEXT_ENCODERS:  # what its captions are padded with is the tokenizer's to say
        files += (folder.parent / TEXT_ENCODERS[part]).glob("*.json")
    content: dict[str, Any] = {p.name: file_hash(p) for p in sorted(files)}
    if part == "text_encoder_2":  # and what no caption is, the index's
        content |= sdxl_settings(folder.parent)
    return {"path": os.path.abspath(folder.parent), "fingerprint": fingerprint(content)}


def model_fingerprints(path: str) -> dict[str, Any]:
    """The fingerprints of all parts of a model that decide its pictures, and their size."""
    folder = str(model_folder(path, "unet"))
    parts = {"model": "unet", "autoencoder": "vae", "schedule": "scheduler"}
    parts |= {part: part for part in parts_at(folder, PARTS)}
    found: dict[str, Any] = {
        name: part_input(folder, part)["fingerprint"] for name, part in parts.items()
    }
    index = Path(folder) / INDEX  # which may say the pictures' side, where the UNet does not
    return found | {"size_px": read_json(index).get("size_px") if index.is_file() else None}


def relative_to(entry: dict[str, str], directory: str | Path) -> dict[str, str]:
    """The same input with its path relative to the artefact, so that a whole tree may move."""
    if "://" in entry["path"]:  # shards at a url
        return entry | {"path": without_credentials(entry["path"])}
    return entry | {"path": os.path.relpath(entry["path"], directory)}


def input_folder(inputs: dict[str, dict[str, str]], name: str, directory: str | Path) -> Path:
    """Where the input ``name`` of the artefact at ``directory``, which may be a link, lies now."""
    there, by_link = (
        Path(os.path.normpath(Path(place) / inputs[name]["path"]))
        for place in (directory, os.path.realpath(directory))
    )
    return by_link if by_link.exists() and not there.exists() else there
