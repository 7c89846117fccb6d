"""Where a model comes from: the manifests of its run and of all that the run was made from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldm.apps.credentials import HIDDEN
from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder, model_folder
from ldm.manifest import Manifest, known_manifest, read_json


def lineage(path: str) -> dict[str, Manifest]:
    """Manifests by kind (run_diffusion, latents, run_autoencoder, ..., shards), as far as known.

    A bare model folder has none. Inputs that have been moved or deleted, or lie at a url, end the
    chain there. Of two of a kind, as where a run began with another's weights (init=), the later
    one is kept; but the second of two text encoders is the kind run_text_encoder_2.
    """
    found: dict[str, Manifest] = {}
    for role, _, manifest in _artefacts(model_folder(path, "unet")):
        second = role == "text_encoder_2" and manifest.kind == "run_text_encoder"
        found.setdefault("run_text_encoder_2" if second else manifest.kind, manifest)
    return found


def shards_of(folder: Path) -> str | None:
    """Where the shards lie that the model in a folder was made from, None where nobody knows.

    UserError where others lie there now, or at a url that wants a password.
    """
    for _, place, manifest in _artefacts(folder):
        if "shards" not in manifest.inputs:
            continue
        wanted = manifest.inputs["shards"]
        if HIDDEN in wanted["path"]:
            raise UserError(
                f"{place} was made from the shards at {wanted['path']}, whose password is not "
                "kept. Give reference= or data.root=URL."
            )
        if "://" in wanted["path"]:
            return wanted["path"]
        root = input_folder(manifest.inputs, "shards", place)
        there = known_manifest(root)
        if there is not None and there.fingerprint != wanted["fingerprint"]:
            raise UserError(
                f"{root} holds other shards than {place} was made from ({there.fingerprint}, then "
                f"{wanted['fingerprint']}). Give reference= or data.root=SHARDS."
            )
        return str(root) if root.is_dir() else None
    return None


def _artefacts(folder: Path) -> Iterator[tuple[str, Path, Manifest]]:
    """The artefacts that a model folder comes from, nearest first: role, place, manifest."""
    seen: set[str] = set()
    open_ends = [("model", folder)]
    for role, directory in open_ends:  # which grows
        # A run is found by its model folder, which is inside of it.
        places = {p: known_manifest(p) for p in (directory, directory.parent)}
        place, manifest = next((item for item in places.items() if item[1]), (directory, None))
        if manifest is None:
            continue
        yield role, place, manifest
        if manifest.fingerprint in seen:
            continue
        seen.add(manifest.fingerprint)
        open_ends += [
            (name, input_folder(manifest.inputs, name, place)) for name in manifest.inputs
        ]


def fitting_metrics(
    path: str, file: str | None, fingerprints: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """The records of a metrics file that were measured on this very model.

    ``file`` is looked for beside the model where it is None. UserError where a file was named
    and holds nothing of this model.
    """
    run = model_folder(path, "unet").parent
    places = [Path(path), run, run.parent] if file is None else [Path(file).parent]
    name = "metrics.json" if file is None else Path(file).name
    for place in places:
        if not (place / name).is_file():
            continue
        records = read_json(place / name)
        if not isinstance(records, dict):
            continue
        fitting = {k: record for k, record in records.items() if _is_of(record, fingerprints)}
        if fitting:
            return fitting
    if file is not None:
        raise UserError(
            f"metrics_file={file} is missing or holds no number of this model; make it with `ldm "
            f"evaluate model={path}`."
        )
    return {}


def _is_of(record: Any, fingerprints: dict[str, str]) -> bool:
    """A number on generated pictures names the denoiser, one on reconstructions the autoencoder."""
    protocol = record.get("protocol") if isinstance(record, dict) else None
    if not isinstance(protocol, dict):
        return False  # of another program
    if "model" in protocol:
        return bool(protocol["model"] == fingerprints["unet"])
    return bool(protocol.get("autoencoder") == fingerprints["vae"])
