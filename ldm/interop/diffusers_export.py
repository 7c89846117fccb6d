"""A model as the folder that a stock pipeline of diffusers loads with from_pretrained, offline."""

from pathlib import Path
from typing import Any

from ldm.backbones.unet import UNet
from ldm.diffusion.latent_scale import LatentScale
from ldm.generation import TextToImage
from ldm.interop.condition_encoders import write_condition_encoder
from ldm.interop.diffusers_autoencoder import write_autoencoder
from ldm.interop.diffusers_files import CONFIG, read
from ldm.interop.diffusers_scheduler import write_schedule
from ldm.interop.diffusers_unet import write_unet
from ldm.interop.fold import folded
from ldm.interop.pipeline import INDEX, OWN_PIPELINE, classes, pipeline_class, require_fit
from ldm.manifest import write_json
from ldm.text.clip import ClipText

_CLASSES = {
    "unet": ("UNet2DConditionModel", "backbone"),
    "vae": ("AutoencoderKL", "regularizer"),
    "scheduler": ("DDIMScheduler", "schedule"),
}
_LAYOUT = "0.36.0"  # whose layout it is; their loader of inpainting models insists on one


def export_pipeline(model: TextToImage, folder: str | Path, *, factor: float = 1.0) -> None:
    """Write the parts, and the index last; the latent statistics are folded in.

    StableDiffusionPipeline knows one scaling factor and no statistics per channel, so the
    autoencoder is written ``folded``, with ``factor`` as its scaling factor, which the pipeline of
    Stable Diffusion XL computes alike. ValueError for what they could not load, naming the setting.
    """
    folder = Path(folder)
    require_fit(model, "the model")
    pipeline = pipeline_class(model)
    if pipeline == OWN_PIPELINE:
        raise ValueError(
            "the latents of this model were cached with condition=classes or condition=none, and "
            "diffusers has no pipeline for such latent diffusion models; only condition=text can "
            "be exported. `ldm sample` draws from the run itself."
        )
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
                f"{pipeline} does not take; it must be a {allowed}."
            )
    text = write_condition_encoder(model.text_encoder, folder, for_transformers=True)
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": _LAYOUT}
    index |= {"feature_extractor": [None, None], "image_encoder": [None, None]}
    if isinstance(model.text_encoder, ClipText):
        index |= {"safety_checker": [None, None], "requires_safety_checker": False}
    write_json(folder / INDEX, index | found | text)
