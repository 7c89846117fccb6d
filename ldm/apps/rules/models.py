"""`ldm export` and `ldm import`: models for other programs, and from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldm.apps.locate import model_folder
from ldm.apps.report.numbers import size_in_words
from ldm.apps.rules.case import Case
from ldm.disk import free_bytes


def exported(case: Case) -> Iterator[str]:
    """A whole model to export."""
    for part in ("unet", "vae"):
        try:
            model_folder(case.config.model, part)
        except ValueError as error:
            yield str(error)


def metrics_file(case: Case) -> Iterator[str]:
    """The metrics of its card."""
    file = case.config.metrics_file
    if file is not None and not Path(file).is_file():
        yield (
            f"metrics_file={file} does not exist; `ldm evaluate model={case.config.model} ...` "
            "writes one, or leave it out."
        )


def known_elsewhere(case: Case) -> Iterator[str]:
    """A model that the format has a place for."""
    from ldm.interop.diffusers_files import CONFIG
    from ldm.interop.pipeline import INDEX, OWN_PIPELINE

    config = case.config
    has_codebook = "num_vq_embeddings" in _read(case, "vae", f"vae/{CONFIG}")
    if config.format == "single_file" and has_codebook:
        yield (
            "the setting regularizer=vq of this model has no place in a single file, which is laid "
            f"out for autoencoders with KL; export {config.model} with format=diffusers."
        )
    elif not has_codebook and _read(case, "unet", INDEX).get("_class_name") == OWN_PIPELINE:
        yield (
            f"the latents of {config.model} were cached with condition=classes or condition=none, "
            "and other programs have no pipeline for such models; only condition=text can be "
            f"exported. `ldm sample model={config.model}` draws from it."
        )


def source(case: Case) -> None:
    """A model at ``from``, in one of the layouts that are read, and choices that are its own."""
    from ldm.apps.build import build
    from ldm.apps.import_model import check_choice, model_at

    config = case.config
    prediction = None if config.prediction is None else build(config.prediction)
    check_choice(model_at(Path(config["from"])), config.weights, prediction)


def room_for_it(case: Case) -> Iterator[str]:
    """Room on the disk for a copy of what is imported."""
    source, run = Path(case.config["from"]), Path(case.config.run)
    if not source.exists():
        return  # told by ``source``
    files = [source] if source.is_file() else source.rglob("*.safetensors")
    needed = sum(file.stat().st_size for file in files)
    if (free := free_bytes(run)) < needed:
        yield (
            f"run={run} needs about {size_in_words(needed)}, and {size_in_words(free)} are free; "
            "choose another disk."
        )


def _read(case: Case, part: str, file: str) -> dict[str, Any]:
    """A small file of the model; empty where ``exported`` says what is not there."""
    from ldm.interop.diffusers_files import read

    try:
        place = model_folder(case.config.model, part) / file
    except ValueError:
        return {}
    return read(place) if place.is_file() else {}
