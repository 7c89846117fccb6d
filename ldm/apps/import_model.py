"""`ldm import`: a model of other origin becomes a run that samples, evaluates and trains on."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.build import build
from ldm.apps.errors import UserError
from ldm.apps.whole_directory import holds, whole_directory
from ldm.backbones.unet import UNet
from ldm.diffusion.prediction import Prediction
from ldm.generation import TextToImage
from ldm.interop.compvis.single_file import WEIGHTS_OF, unpack
from ldm.interop.diffusers_files import read
from ldm.interop.diffusers_vq_pipeline import VQ_PIPELINE, read_vq_pipeline
from ldm.interop.pipeline import INDEX, read_pipeline, write_pipeline
from ldm.interop.weight_files import what_was_chosen
from ldm.manifest import file_hash, fingerprint, write_manifest
from ldm.text.classes import ClassTable
from ldm.text.sdxl_text import SdxlText
from ldm.text.unconditional import Unconditional

SINGLE_FILES = (".safetensors", ".ckpt")
_EXPERIMENT = """# @package _global_
# Goes on from the model imported from {source}
# Command:  ldm train --config-dir {run}/configs experiment=imported data.root=LATENTS
# with LATENTS from:  ldm cache autoencoder_run={run} {condition} data.root=SHARDS out=LATENTS
"""


def import_model(config: DictConfig) -> int:
    """Write the run directory, unless it holds this very model."""
    source, run = Path(config["from"]), Path(config.run)
    found = model_at(source)
    files = [found]
    if found.is_dir():
        files = sorted(p for p in found.rglob("*") if p.suffix in (".json", ".safetensors"))
    content = {str(p.relative_to(found)): file_hash(p) for p in files}
    prediction = None if config.prediction is None else build(config.prediction)
    check_choice(found, config.weights, prediction)
    choice = {"weights": config.weights, "prediction": prediction and prediction.name}
    fingerprints = {"source": fingerprint(content), "request": fingerprint(choice)}
    if holds(run, "run", kind="run_import", wanted=fingerprints):
        print(f"{run}: this model is imported there already")
        return 0
    with whole_directory(run) as directory:
        model = _read(found, directory / "unpacked", config.weights, prediction)
        write_pipeline(model, directory / "model")
        if _is_trained_here(model):
            _write_experiment(model, source, run, directory / "configs" / "experiment")
        write_manifest(
            directory,
            kind="run_import",
            settings={"from": str(config["from"]), **choice},
            inputs={
                name: {"path": str(source.resolve()), "fingerprint": value}
                for name, value in fingerprints.items()
            },
            facts={"step": 0, "licence": _licence(found)},
        )
    count = sum(parameter.numel() for parameter in model.parameters())
    more = "" if isinstance(model.text_encoder, Unconditional) else ' prompt="..."'
    more += " image=FILE mask=FILE" if model.inpaints else ""
    print(
        f"{run}: a model of {count:,} parameters for {model.size_px} px; pictures: ldm sample "
        f"model={run}{more}"
    )
    return 0


def _licence(found: Path) -> str | None:
    """What the model card of a folder names in its header; None where nobody says."""
    card = found / "README.md"
    if not card.is_file():
        return None
    head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    named = re.search(r"^license: *[\"']?([\w.-]+)", head, re.MULTILINE)
    return named[1] if head.startswith("---") and named else None


def check_choice(found: Path, weights: str | None, prediction: Prediction | None) -> None:
    """UserError for a choice that is the folder's to make."""
    if weights is not None and found.is_dir():
        raise UserError(
            f"weights={weights} chooses within a single file, and {found} is a folder: leave in it "
            "the weights that you mean, and weights= out."
        )
    if prediction is not None and found.is_dir():
        raise UserError(
            f"prediction={prediction.name} is for single files; {found} is a folder, whose "
            "scheduler/scheduler_config.json says it. Leave prediction= out."
        )


def _read(
    found: Path, unpacked: Path, weights: str | None, prediction: Prediction | None
) -> TextToImage:
    """The model; a single file is unpacked for as long as that takes."""
    if found.is_dir():
        return _read_folder(found)
    try:
        for sentence in unpack(found, unpacked, weights=weights, prediction=prediction):
            print(sentence)
        return read_pipeline(unpacked)
    except ValueError as error:  # which may speak of a folder that nobody else has seen
        said = str(error).replace(f"{unpacked}/", f"{found}: ")
        raise UserError(said if str(found) in said else f"{found}: {said}") from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _read_folder(found: Path) -> TextToImage:
    for part, name in WEIGHTS_OF.items():
        if (clause := what_was_chosen(found / part, name)) is not None:
            print(f"{part}: {clause}")
    has_codebook = read(found / INDEX).get("_class_name") == VQ_PIPELINE
    return read_vq_pipeline(found) if has_codebook else read_pipeline(found)


def model_at(source: Path) -> Path:
    """The folder in diffusers' layout, or the single file, at ``source``."""
    if not source.exists():
        raise UserError(
            f"from={source} does not exist. Nothing is downloaded: fetch the model yourself (a "
            "folder in diffusers' layout) and name the folder."
        )
    if source.is_file() or (source / INDEX).is_file():
        return source
    single = sorted(p for p in source.glob("*") if p.suffix in SINGLE_FILES)
    if len(single) == 1:
        return single[0]
    if single:
        raise UserError(
            f"from={source} holds several single files ({', '.join(p.name for p in single)}); give "
            "the one that you mean."
        )
    raise UserError(
        f"from={source} is no model: it holds neither {INDEX} with unet/, vae/, scheduler/ and "
        "text_encoder/ beside it, as diffusers writes a model, nor one single file "
        f"({' or '.join(SINGLE_FILES)}) with all of it."
    )


def _write_experiment(model: TextToImage, source: Path, run: Path, folder: Path) -> None:
    """The experiment that continues training: the networks' own settings, the rest to be chosen."""
    schedule = dict(model.denoiser.schedule.description)
    name, prediction = schedule.pop("name"), model.denoiser.prediction.name
    unet = model.denoiser.network
    assert isinstance(unet, UNet)
    values: dict[str, Any] = {
        "defaults": [
            {"override /stage": "diffusion"},
            {"override /schedule": name},
            {"override /prediction": prediction},
            {"override /learning_rate": "constant"},
        ],
        "run": "runs/imported",
        "init": os.path.abspath(run),
        "size": model.size_px,
        "max_steps": 10_000,
        "global_batch": 32,
        "lr": 1e-5,
        "warmup_steps": 500,
        "max_gradient_norm": 1.0,
        "ema_decay": 0.9999,
        "checkpoint_every": 1000,
        "validate_every": 1000,
        "schedule": schedule,
        "backbone": {"_target_": "ldm.backbones.unet.UNet", **unet.config},
    }
    folder.mkdir(parents=True)
    text = _EXPERIMENT.format(
        source=source, run=run, condition=_condition(model, run)
    ) + OmegaConf.to_yaml(OmegaConf.create(values))
    (folder / "imported.yaml").write_text(text, encoding="utf-8")


def _is_trained_here(model: TextToImage) -> bool:
    # Nothing here makes the masked pictures, or the aesthetic scores, that these learn from.
    text = model.text_encoder
    return not model.inpaints and not (isinstance(text, SdxlText) and text.num_sizes == 5)


def _condition(model: TextToImage, run: Path) -> str:
    """The words of `ldm cache` by which latents are conditioned as this model is."""
    if isinstance(model.text_encoder, ClassTable):
        return "condition=classes"
    return "condition=none" if isinstance(model.text_encoder, Unconditional) else f"text_run={run}"
