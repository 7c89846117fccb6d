"""Where a model comes from: the manifests of its run and of all that the run was made from."""

from pathlib import Path
from typing import Any

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
    seen: set[str] = set()
    open_ends = [("model", model_folder(path, "unet"))]
    for role, directory in open_ends:  # which grows
        # A run is found by its model folder, which is inside of it.
        places = {p: known_manifest(p) for p in (directory, directory.parent)}
        place, manifest = next((item for item in places.items() if item[1]), (directory, None))
        if manifest is None:
            continue
        second = role == "text_encoder_2" and manifest.kind == "run_text_encoder"
        found.setdefault("run_text_encoder_2" if second else manifest.kind, manifest)
        if manifest.fingerprint in seen:
            continue
        seen.add(manifest.fingerprint)
        open_ends += [
            (name, input_folder(manifest.inputs, name, place)) for name in manifest.inputs
        ]
    return found


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
