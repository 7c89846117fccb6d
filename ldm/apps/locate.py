"""Where the parts of a model lie: in a recipe's directory, a run, or a model folder."""

import os
from pathlib import Path

from ldm.apps.errors import UserError
from ldm.manifest import file_hash, fingerprint

MAKES = {
    "unet": "`ldm train` with stage=diffusion",
    "vae": "`ldm train` with stage=autoencoder",
    "text_encoder": "`ldm train` with stage=text_encoder",
    "scheduler": "`ldm train` with stage=diffusion",
}


def model_folder(path: str, part: str) -> Path:
    """The model folder under ``path`` that holds ``part`` (unet, vae or text_encoder).

    ``path`` may be a recipe's directory, a run directory or the folder itself. UserError naming
    what makes the part when it is not there.
    """
    root = Path(path)
    places = [root, root / "model", root / "diffusion" / "model"]
    for place in places:
        if (place / part).is_dir():
            return place
    if not root.is_dir():
        raise UserError(f"{path} does not exist; {MAKES[part]} makes the {part} looked for there.")
    if (root / "config.yaml").is_file():
        raise UserError(
            f"the run {path} is not finished: it has no model/{part} yet. Run its command again."
        )
    raise UserError(f"{path} holds no {part}; {MAKES[part]} makes one.")


def part_input(path: str, part: str) -> dict[str, str]:
    """Path and fingerprint of a model part, for the manifest of what is made from it.

    The fingerprint is of the files' bytes, so it follows the part wherever it is copied.
    """
    folder = model_folder(path, part) / part
    files = [p for p in folder.iterdir() if p.suffix in (".json", ".safetensors")]
    if part == "text_encoder":  # what its captions are padded with is the tokenizer's to say
        files += (folder.parent / "tokenizer").glob("*.json")
    content = {p.name: file_hash(p) for p in sorted(files)}
    return {"path": os.path.abspath(folder.parent), "fingerprint": fingerprint(content)}


def model_fingerprints(path: str) -> dict[str, str]:
    """The fingerprints of all parts of a model that decide its pictures, by name."""
    parts = {"model": "unet", "autoencoder": "vae", "text_encoder": "text_encoder"}
    parts["schedule"] = "scheduler"
    return {name: part_input(path, part)["fingerprint"] for name, part in parts.items()}


def relative_to(entry: dict[str, str], directory: str | Path) -> dict[str, str]:
    """The same input with its path relative to the artefact, so that a whole tree may move."""
    return entry | {"path": os.path.relpath(entry["path"], directory)}


def input_folder(inputs: dict[str, dict[str, str]], name: str, directory: str | Path) -> Path:
    """Where the input ``name`` of the artefact at ``directory`` lies now."""
    return Path(os.path.normpath(Path(directory) / inputs[name]["path"]))
