"""A model with a codebook as the folder that diffusers' LDMTextToImagePipeline loads, and back.

StableDiffusionPipeline cannot draw with a VQModel (its call of decode has an argument that VQModel
lacks); latent diffusion's own pipeline in diffusers can.
"""

from pathlib import Path

from ldm.autoencoders.regularizers import VQ
from ldm.backbones.unet import UNet
from ldm.diffusion.denoiser import Denoiser
from ldm.generation import TextToImage
from ldm.interop.diffusers_autoencoder import read_autoencoder, read_scale, write_autoencoder
from ldm.interop.diffusers_files import CONFIG, read
from ldm.interop.diffusers_scheduler import SCHEDULER_CONFIG, read_schedule, write_schedule
from ldm.interop.diffusers_unet import read_unet, write_unet
from ldm.interop.pipeline import INDEX, require_fit, size_px
from ldm.interop.transformers import read_text_encoder, write_text_encoder
from ldm.interop.transformers_tokenizer import read_pad_id, write_tokenizer
from ldm.manifest import write_json
from ldm.text.clip import ClipText

VQ_PIPELINE, VQ_PART = "LDMTextToImagePipeline", "vqvae"  # its name of the autoencoder
_CONTEXT_LENGTH, _STRIDE = 77, 8  # of every model, in the pipeline's code
_PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    VQ_PART: ["diffusers", "VQModel"],
    "bert": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}


def write_vq_pipeline(model: TextToImage, folder: str | Path) -> None:
    """Write the five parts by that pipeline's names, and the index last.

    ValueError for what it would draw otherwise, naming the setting. Statistics per channel are
    among that: the nearest code is another when channels are stretched differently, so they cannot
    be folded into a codebook as into a KL autoencoder.
    """
    folder = Path(folder)
    require_fit(model, "the model")
    denoiser, text = model.denoiser, model.text_encoder
    assert isinstance(denoiser.network, UNet) and isinstance(model.autoencoder.regularizer, VQ)
    if model.inpaints:
        raise _no_place("backbone.in_channels=9", "it takes no mask")
    if not isinstance(text, ClipText):
        raise _no_place("condition=", "only text from one tower conditions its pictures")
    if model.scale.std.numel() > 1 or bool((model.scale.mean != 0.0).any()):
        raise _no_place(
            "latent_scale=per_channel",
            "it knows one factor for all channels. Train the denoiser with latent_scale=scalar",
        )
    if (length := text.tokenize.context_length) != _CONTEXT_LENGTH:
        raise _no_place(
            f"text_encoder.text.context_length={length}",
            f"it gives every text tower {_CONTEXT_LENGTH} tokens",
        )
    # It asks for sample_size x stride pixels and takes latents of an eighth of that, whatever the
    # stride is; with this sample_size they have the side that the model was trained at.
    side, stride = model.size_px // model.autoencoder.stride, model.autoencoder.stride
    write_unet(denoiser.network, folder / "unet", sample_size=side * _STRIDE // stride)
    write_schedule(denoiser.schedule, denoiser.prediction, folder / "scheduler")
    write_autoencoder(
        model.autoencoder, folder / VQ_PART, scale=model.scale, sample_size=model.size_px
    )
    files = {"unet": CONFIG, "scheduler": SCHEDULER_CONFIG}
    for part, setting in (("unet", "backbone"), ("scheduler", "schedule")):
        if (name := read(folder / part / files[part])["_class_name"]) != _PARTS[part][1]:
            raise _no_place(
                f"{setting}=", f"its {part} must be a {_PARTS[part][1]} and is a {name}"
            )
    write_text_encoder(text, folder / "bert")
    write_tokenizer(folder / "tokenizer", context_length=length, pad_id=text.tokenize.pad_id)
    write_json(folder / INDEX, {"_class_name": VQ_PIPELINE} | _PARTS)


def read_vq_pipeline(folder: str | Path) -> TextToImage:
    """The model that ``write_vq_pipeline`` wrote, frozen and in eval mode.

    ValueError for a file that is missing or damaged, or for what is not supported.
    """
    folder = Path(folder)
    schedule, prediction = read_schedule(folder / "scheduler")
    network, autoencoder = read_unet(folder / "unet"), read_autoencoder(folder / VQ_PART)
    tower = read_text_encoder(folder / "bert", pad_id=read_pad_id(folder / "tokenizer"))
    model = TextToImage(
        denoiser=Denoiser(network=network, schedule=schedule, prediction=prediction),
        autoencoder=autoencoder,
        text_encoder=ClipText(tower),
        scale=read_scale(folder / VQ_PART),
        size_px=size_px(folder, stride=autoencoder.stride**2 // _STRIDE),  # as written above
    )
    require_fit(model, str(folder))
    return model.requires_grad_(False).eval()


def _no_place(setting: str, reason: str) -> ValueError:
    return ValueError(
        f"the setting {setting} of this model has no place in {VQ_PIPELINE}, the pipeline of "
        f"diffusers that draws with a codebook: {reason}."
    )
