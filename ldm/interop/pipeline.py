"""A whole model as a folder: diffusers' layout, one sub-folder per part, and back."""

from pathlib import Path

from ldm.backbones.unet import UNet
from ldm.diffusion.denoiser import Denoiser
from ldm.generation import TextToImage
from ldm.interop.diffusers import (
    read_autoencoder,
    read_scale,
    read_schedule,
    read_unet,
    write_autoencoder,
    write_schedule,
    write_unet,
)
from ldm.interop.diffusers_files import CONFIG
from ldm.manifest import read_json, write_json
from ldm.text.clip import ClipText, ClipTowers

INDEX = "model_index.json"


def write_pipeline(model: TextToImage, towers: ClipTowers, folder: str | Path) -> None:
    """Write unet/, scheduler/, vae/ (with the latent statistics), text_encoder/; the index last."""
    folder = Path(folder)
    denoiser = model.denoiser
    assert isinstance(denoiser.network, UNet)
    latent_size = model.size_px // model.autoencoder.stride
    write_unet(denoiser.network, folder / "unet", sample_size=latent_size)
    scheduler = write_schedule(denoiser.schedule, denoiser.prediction, folder / "scheduler")
    write_autoencoder(
        model.autoencoder, folder / "vae", scale=model.scale, sample_size=model.size_px
    )
    towers.save(folder / "text_encoder")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", read_json(folder / "vae" / CONFIG)["_class_name"]],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["open_clip", "CLIP"],
        "size_px": model.size_px,
    }
    write_json(folder / INDEX, index)


def read_pipeline(folder: str | Path) -> TextToImage:
    """The model that ``write_pipeline`` wrote, frozen and in eval mode."""
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise ValueError(
            f"{folder} is no complete model ({INDEX} is missing); a finished `ldm train` of stage "
            "diffusion writes one."
        )
    schedule, prediction = read_schedule(folder / "scheduler")
    model = TextToImage(
        denoiser=Denoiser(
            network=read_unet(folder / "unet"), schedule=schedule, prediction=prediction
        ),
        autoencoder=read_autoencoder(folder / "vae"),
        text_encoder=ClipText(ClipTowers.load(folder / "text_encoder")),
        scale=read_scale(folder / "vae"),
        size_px=int(read_json(folder / INDEX)["size_px"]),
    )
    return model.requires_grad_(False).eval()
