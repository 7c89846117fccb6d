"""A model with a codebook as the folder that LDMTextToImagePipeline.from_pretrained loads, offline.

StableDiffusionPipeline cannot draw with a VQModel (its call of decode has an argument that VQModel
lacks); latent diffusion's own pipeline in diffusers can.
"""

from pathlib import Path

from ldm.autoencoders.regularizers import VQ
from ldm.backbones.unet import UNet
from ldm.generation import TextToImage
from ldm.interop.diffusers_autoencoder import write_autoencoder
from ldm.interop.diffusers_files import CONFIG, read
from ldm.interop.diffusers_scheduler import SCHEDULER_CONFIG, write_schedule
from ldm.interop.diffusers_unet import write_unet
from ldm.interop.pipeline import INDEX, require_fit
from ldm.interop.transformers import write_text_encoder
from ldm.interop.transformers_tokenizer import write_tokenizer
from ldm.manifest import write_json

PIPELINE = "LDMTextToImagePipeline"
_CONTEXT_LENGTH, _STRIDE = 77, 8  # of every model, in the pipeline's code
_PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "vqvae": ["diffusers", "VQModel"],
    "bert": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}


def export_vq_pipeline(model: TextToImage, folder: str | Path) -> None:
    """Write the five parts by that pipeline's names, and the index last.

    ValueError for what it would draw otherwise, naming the setting. Statistics per channel are
    among that: the nearest code is another when channels are stretched differently, so they cannot
    be folded into a codebook as into a KL autoencoder.
    """
    folder = Path(folder)
    require_fit(model, "the model")
    denoiser, text = model.denoiser, model.text_encoder
    assert isinstance(denoiser.network, UNet) and isinstance(model.autoencoder.regularizer, VQ)
    if model.scale.std.numel() > 1 or bool((model.scale.mean != 0.0).any()):
        raise ValueError(
            f"the setting latent_scale=per_channel of this model has no place in {PIPELINE}, the "
            "pipeline of diffusers that draws with a codebook: it knows one factor for all "
            "channels. Train the denoiser with latent_scale=scalar to export it."
        )
    if text.tokenize.context_length != _CONTEXT_LENGTH:
        raise ValueError(
            f"the setting text_encoder.text.context_length={text.tokenize.context_length} of this "
            f"model has no place in {PIPELINE}, the pipeline of diffusers that draws with a "
            f"codebook: it gives every text tower {_CONTEXT_LENGTH} tokens."
        )
    # It asks for sample_size x stride pixels and takes latents of an eighth of that, whatever the
    # stride is; with this sample_size they have the side that the model was trained at.
    side, stride = model.size_px // model.autoencoder.stride, model.autoencoder.stride
    write_unet(denoiser.network, folder / "unet", sample_size=side * _STRIDE // stride)
    write_schedule(denoiser.schedule, denoiser.prediction, folder / "scheduler")
    write_autoencoder(
        model.autoencoder, folder / "vqvae", scale=model.scale, sample_size=model.size_px
    )
    files = {"unet": CONFIG, "scheduler": SCHEDULER_CONFIG}
    for part, setting in (("unet", "backbone"), ("scheduler", "schedule")):
        if (name := read(folder / part / files[part])["_class_name"]) != _PARTS[part][1]:
            raise ValueError(
                f"the setting {setting}= of this model makes its {part} a {name}, which {PIPELINE} "
                f"does not take; it must be a {_PARTS[part][1]}."
            )
    write_text_encoder(text, folder / "bert")
    write_tokenizer(
        folder / "tokenizer", context_length=_CONTEXT_LENGTH, pad_id=text.tokenize.pad_id
    )
    write_json(folder / INDEX, {"_class_name": PIPELINE, "size_px": model.size_px} | _PARTS)
