"""A model as the folder that StableDiffusionPipeline.from_pretrained loads, offline."""

from pathlib import Path

from ldm.backbones.unet import UNet
from ldm.diffusion.latent_scale import LatentScale
from ldm.generation import TextToImage
from ldm.interop.diffusers import write_autoencoder, write_schedule, write_unet
from ldm.interop.fold import folded
from ldm.interop.pipeline import INDEX, PARTS, TRANSFORMERS_PARTS, require_fit, write_text
from ldm.manifest import write_json


def export_pipeline(model: TextToImage, folder: str | Path) -> None:
    """Write the five parts, and the index last; the latent statistics are folded in.

    That pipeline knows one scaling factor and no statistics per channel, so the autoencoder is
    written ``folded``, with a factor of 1. ValueError for what it could not load.
    """
    folder = Path(folder)
    require_fit(model, "the model")
    denoiser = model.denoiser
    assert isinstance(denoiser.network, UNet)
    autoencoder = folded(model.autoencoder, model.scale, factor=1.0)
    write_unet(denoiser.network, folder / "unet", sample_size=model.size_px // autoencoder.stride)
    write_schedule(denoiser.schedule, denoiser.prediction, folder / "scheduler")
    identity = LatentScale([0.0], [1.0])
    write_autoencoder(autoencoder, folder / "vae", scale=identity, sample_size=model.size_px)
    write_text(model.text_encoder, folder)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
    write_json(folder / INDEX, index | PARTS | TRANSFORMERS_PARTS)
