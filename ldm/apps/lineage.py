"""Where a model comes from: the manifests of its run and of all that the run was made from."""

from pathlib import Path
from typing import Any

from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder, model_folder
from ldm.manifest import FILE_NAME, Manifest, read_json, read_manifest


def lineage(path: str) -> dict[str, Manifest]:
    """Manifests by kind (run_diffusion, latents, run_autoencoder, ..., shards), as far as known.

    A bare model folder has none. Inputs that have been moved or deleted end the chain there. Of
    two of a kind, as where a run began with another's weights (init=), the later one is kept.
    """
    found: dict[str, Manifest] = {}
    seen: set[str] = set()
    open_ends = [model_folder(path, "unet")]
    for directory in open_ends:  # which grows
        # A run is found by its model folder, which is inside of it.
        places = [p for p in (directory, directory.parent) if (p / FILE_NAME).is_file()]
        if not places:
            continue
        manifest = read_manifest(places[0])
        if manifest.fingerprint in seen:
            continue
        seen.add(manifest.fingerprint)
        found.setdefault(manifest.kind, manifest)
        open_ends += [input_folder(manifest.inputs, name, places[0]) for name in manifest.inputs]
        if manifest.settings.get("init"):
            open_ends.append(Path(manifest.settings["init"]))
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
        records: dict[str, dict[str, Any]] = read_json(place / name)
        fitting = {k: r for k, r in records.items() if _is_of(r["protocol"], fingerprints)}
        if fitting:
            return fitting
    if file is not None:
        raise UserError(
            f"metrics_file={file} is missing or holds no number of this model; make it with `ldm "
            f"evaluate model={path}`."
        )
    return {}


def _is_of(protocol: dict[str, Any], fingerprints: dict[str, str]) -> bool:
    """A number on generated pictures names the denoiser, one on reconstructions the autoencoder."""
    if "model" in protocol:
        return bool(protocol["model"] == fingerprints["unet"])
    return bool(protocol.get("autoencoder") == fingerprints["vae"])
