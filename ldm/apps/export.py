"""`ldm export`: a finished model for other programs, with its model card."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.bill.made_of import bill_at
from ldm.apps.conditioning import condition_inputs
from ldm.apps.errors import UserError
from ldm.apps.lineage import fitting_metrics, lineage
from ldm.apps.locate import model_fingerprints, model_folder, part_input, relative_to
from ldm.apps.whole_directory import holds, whole_directory
from ldm.autoencoders.regularizers import VQ
from ldm.generation import TextToImage
from ldm.interop.compvis.layouts import SD1, SDXL
from ldm.interop.compvis.single_file import pack
from ldm.interop.diffusers_export import export_pipeline
from ldm.interop.diffusers_vq_pipeline import VQ_PIPELINE, write_vq_pipeline
from ldm.interop.model_card import model_card
from ldm.interop.pipeline import pipeline_class, read_pipeline
from ldm.manifest import fingerprint, write_manifest
from ldm.text.sdxl_text import SdxlText


def export(config: DictConfig) -> int:
    """Write the directory ``out``, unless it holds this very export."""
    out = Path(config.out)
    inputs = {part: part_input(config.model, part) for part in ("unet", "vae")}
    inputs |= condition_inputs(config.model)
    fingerprints = {part: entry["fingerprint"] for part, entry in inputs.items()}
    metrics = fitting_metrics(config.model, config.metrics_file, fingerprints)
    settings = {"format": config.format, "license": config.license}
    size_px = model_fingerprints(config.model)["size_px"]
    asked = fingerprint({"settings": settings, "metrics": metrics, "size_px": size_px})
    inputs["request"] = {"path": config.model, "fingerprint": asked}
    wanted = {name: entry["fingerprint"] for name, entry in inputs.items()}
    if holds(out, "out", kind="export", wanted=wanted):
        print(f"{out}: this model is exported there already")
        return 0
    model = read_pipeline(model_folder(config.model, "unet"))
    write, usage = FORMATS[config.format]
    origin = lineage(config.model)
    with whole_directory(out) as directory:
        unseen = write(model, directory, out.resolve().name)
        card = model_card(
            title=out.resolve().name,
            licence=config.license,
            usage=usage.format(
                out=out,
                name=out.resolve().name,
                pipeline=VQ_PIPELINE if _has_codebook(model) else pipeline_class(model),
                inputs="image=image, mask_image=mask, " if model.inpaints else "",
            )
            + (_UNSEEN + "\n".join(f"- {setting}" for setting in unseen) if unseen else ""),
            library="diffusers" if config.format == "diffusers" else None,
            model=model,
            lineage=origin,
            metrics=metrics,
            materials=_materials(config.model),
        )
        (directory / "README.md").write_text(card, encoding="utf-8")
        write_manifest(
            directory,
            kind="export",
            settings=settings,
            inputs={name: relative_to(entry, out) for name, entry in inputs.items()},
        )
    print(f"{out}: exported as {config.format}; how to load it: {out / 'README.md'}")
    return 0


def _materials(model: str) -> dict[str, Any]:
    """The bill of the model, as far as anybody knows it."""
    try:
        return bill_at(model).as_json()
    except UserError:  # a bare folder: the card says so
        return {}


def _diffusers(model: TextToImage, directory: Path, name: str) -> list[str]:
    (write_vq_pipeline if _has_codebook(model) else export_pipeline)(model, directory)
    return []


def _has_codebook(model: TextToImage) -> bool:
    return isinstance(model.autoencoder.regularizer, VQ)


def _single_file(model: TextToImage, directory: Path, name: str) -> list[str]:
    parts = directory / "parts"
    # Programs that read such files divide latents by this number, whatever the model.
    kind = SDXL if isinstance(model.text_encoder, SdxlText) else SD1
    export_pipeline(model, parts, factor=kind.scaling_factor)
    unseen = pack(parts, directory / f"{name}.safetensors")
    for setting in unseen:
        print(f"other programs cannot see from the file's tensors: {setting}")
    shutil.rmtree(parts)
    return unseen


_SINGLE_FILE_USAGE = """`{name}.safetensors` holds the whole model, laid out as the checkpoints of
Stable Diffusion: put it where ComfyUI or a web UI looks for checkpoints. They know the widths and
heads of the published models; those of another model are in the file's metadata, and
`ldm import from={out} run=DIR` makes it a run again."""
_DIFFUSERS_USAGE = """```python
from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained("{out}")
images = pipeline("a prompt", {inputs}num_inference_steps=20, guidance_scale=3.0).images
images[0].save("picture.png")
```"""
_UNSEEN = "\n\nWhat other programs cannot see from the file's tensors, and must be told:\n\n"
# Per format: what writes it (model, directory, name of the export; giving what other programs
# cannot see of it), and how it is loaded.
FORMATS: dict[str, tuple[Callable[[TextToImage, Path, str], list[str]], str]] = {
    "diffusers": (_diffusers, _DIFFUSERS_USAGE),
    "single_file": (_single_file, _SINGLE_FILE_USAGE),
}
