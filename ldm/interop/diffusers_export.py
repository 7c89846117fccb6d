"""A model as the folder that StableDiffusionPipeline.from_pretrained loads, offline.

One for inpainting is written for StableDiffusionInpaintPipeline.
"""

from pathlib import Path

from ldm.backbones.unet import UNet
from ldm.diffusion.latent_scale import LatentScale
from ldm.generation import TextToImage
from ldm.interop.diffusers import write_autoencoder, write_schedule, write_unet
from ldm.interop.diffusers_files import CONFIG, read
from ldm.interop.fold import folded
from ldm.interop.pipeline import (
    INDEX,
    TRANSFORMERS_PARTS,
    classes,
    pipeline_class,
    require_fit,
    write_text,
)
from ldm.manifest import write_json

_CLASSES = {
    "unet": ("UNet2DConditionModel", "backbone"),
    "vae": ("AutoencoderKL", "regularizer"),
    "scheduler": ("DDIMScheduler", "schedule"),
}
_LAYOUT = "0.36.0"  # whose layout it is; their loader of inpainting models insists on one


def export_pipeline(model: TextToImage, folder: str | Path, *, factor: float = 1.0) -> None:
    """Write the five parts, and the index last; the latent statistics are folded in.

    That pipeline knows one scaling factor and no statistics per channel, so the autoencoder is
    written ``folded``, with ``factor`` as its scaling factor. ValueError for what it could not
    load, naming the setting.
    """
    folder = Path(folder)
    require_fit(model, "the model")
    denoiser = model.denoiser
    assert isinstance(denoiser.network, UNet)
    autoencoder = folded(model.autoencoder, model.scale, factor=factor)
    write_unet(denoiser.network, folder / "unet", sample_size=model.size_px // autoencoder.stride)
    write_schedule(denoiser.schedule, denoiser.prediction, folder / "scheduler")
    scale = LatentScale([0.0], [1.0 / factor])
    write_autoencoder(autoencoder, folder / "vae", scale=scale, sample_size=model.size_px)
    # The float32 in between would show: 0.18215 is compared by other programs as a literal.
    config = read(folder / "vae" / CONFIG) | {"scaling_factor": factor}
    write_json(folder / "vae" / CONFIG, config)
    found = classes(folder)
    for part, (allowed, setting) in _CLASSES.items():
        if found[part][1] != allowed:
            raise ValueError(
                f"the setting {setting}= of this model makes its {part} a {found[part][1]}, which "
                f"StableDiffusionPipeline does not take; it must be a {allowed}."
            )
    write_text(model.text_encoder, folder)
    index = {
        "_class_name": pipeline_class(model),
        "_diffusers_version": _LAYOUT,
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
    write_json(folder / INDEX, index | found | TRANSFORMERS_PARTS)
