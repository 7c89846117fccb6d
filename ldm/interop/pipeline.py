"""A whole model as a folder: diffusers' layout, one sub-folder per part, and back."""

from pathlib import Path
from typing import Any

from ldm.backbones.unet import UNet
from ldm.diffusion.denoiser import Denoiser
from ldm.generation import TextToImage
from ldm.interop.condition_encoders import PARTS, read_condition_encoder, write_condition_encoder
from ldm.interop.config_values import COUNT, require
from ldm.interop.diffusers_autoencoder import (
    empty_autoencoder,
    read_autoencoder,
    read_scale,
    write_autoencoder,
)
from ldm.interop.diffusers_files import CONFIG, read
from ldm.interop.diffusers_scheduler import SCHEDULER_CONFIG, read_schedule, write_schedule
from ldm.interop.diffusers_unet import read_unet, write_unet
from ldm.manifest import write_json
from ldm.text.clip import ClipText
from ldm.text.sdxl_text import SdxlText

INDEX = "model_index.json"
INPAINTING_CHANNELS = 9  # Stable Diffusion's: latents 4, mask 1, latents of the masked picture 4
CONFIGS = {"unet": CONFIG, "vae": CONFIG, "scheduler": SCHEDULER_CONFIG}
OWN_PIPELINE = "ldm.TextToImage"  # the class name of a model that diffusers has no pipeline for


def write_pipeline(model: TextToImage, folder: str | Path) -> None:
    """Write unet/, scheduler/, vae/ (with the latent statistics), the text; the index last."""
    folder = Path(folder)
    denoiser = model.denoiser
    _write_denoiser(model, folder)
    write_schedule(denoiser.schedule, denoiser.prediction, folder / "scheduler")
    write_autoencoder(
        model.autoencoder, folder / "vae", scale=model.scale, sample_size=model.size_px
    )
    text = write_condition_encoder(model.text_encoder, folder)
    index = {"_class_name": pipeline_class(model), "size_px": model.size_px}
    write_json(folder / INDEX, index | classes(folder) | text)


def write_learned(model: TextToImage, folder: str | Path) -> None:
    """Write of such a folder only what stage diffusion changes: unet/, and a table of classes."""
    _write_denoiser(model, Path(folder))
    if model.text_encoder.is_learned:
        write_condition_encoder(model.text_encoder, folder)


def _write_denoiser(model: TextToImage, folder: Path) -> None:
    network = model.denoiser.network
    assert isinstance(network, UNet)
    latent_size = model.size_px // model.autoencoder.stride
    write_unet(network, folder / "unet", sample_size=latent_size)


def pipeline_class(model: TextToImage) -> str:
    """The pipeline of diffusers for such a model, or our own."""
    text, inpaints = model.text_encoder, "Inpaint" if model.inpaints else ""
    if isinstance(text, SdxlText):  # its refiner starts from a picture
        return f"StableDiffusionXL{'Img2Img' if text.num_sizes == 5 else inpaints}Pipeline"
    return f"StableDiffusion{inpaints}Pipeline" if isinstance(text, ClipText) else OWN_PIPELINE


def is_inpainting(folder: Path) -> bool:
    """Whether the model of a folder is one for inpainting, by its configuration alone."""
    return read(folder / "unet" / CONFIG).get("in_channels") == INPAINTING_CHANNELS


def classes(folder: Path) -> dict[str, list[str]]:
    """For the index: library and class of the parts, as their own config files name them."""
    names = {part: str(read(folder / part / file)["_class_name"]) for part, file in CONFIGS.items()}
    return {
        part: ["ldm" if name.startswith("ldm.") else "diffusers", name]
        for part, name in names.items()
    }


def read_pipeline(folder: str | Path) -> TextToImage:
    """The model that ``write_pipeline`` wrote, or a published one, frozen and in eval mode.

    ValueError naming the parts that are missing, the option that is not supported, or the widths
    of parts that do not fit together.
    """
    folder = Path(folder)
    _require_parts(folder, _index(folder))
    schedule, prediction = read_schedule(folder / "scheduler")
    model = TextToImage(
        denoiser=Denoiser(
            network=read_unet(folder / "unet"), schedule=schedule, prediction=prediction
        ),
        autoencoder=read_autoencoder(folder / "vae"),
        text_encoder=read_condition_encoder(folder),
        scale=read_scale(folder / "vae"),
        size_px=0,
    )
    model.size_px = size_px(folder, stride=model.autoencoder.stride)
    require_fit(model, str(folder))
    return model.requires_grad_(False).eval()


def _index(folder: Path) -> dict[str, Any]:
    if not (folder / INDEX).is_file():
        raise ValueError(
            f"{folder} is no complete model ({INDEX} is missing); a finished `ldm train` of stage "
            "diffusion writes one."
        )
    return read(folder / INDEX)


def require_fit(model: TextToImage, origin: str) -> None:
    """ValueError where the parts of a model do not belong together."""
    unet, latent = model.denoiser.network, model.autoencoder.latent_channels
    assert isinstance(unet, UNet)
    inpaints = unet.in_channels == INPAINTING_CHANNELS and latent == 4
    if unet.out_channels != latent or not (inpaints or unet.in_channels == latent):
        raise ValueError(
            f"{origin}: the UNet maps {unet.in_channels} channels to {unet.out_channels}, and the "
            f"autoencoder's latents have {latent}; only models from text to image can be read, and "
            f"those for inpainting with Stable Diffusion's {INPAINTING_CHANNELS} channels to 4."
        )
    text = model.text_encoder
    if unet.vector_dim != text.vector_dim:
        raise ValueError(
            f"{origin}: the UNet takes {_vector(unet.vector_dim)} beside the tokens, and the text "
            f"encoder gives {_vector(text.vector_dim)}; they are of different models (Stable "
            "Diffusion XL has one, from text_encoder_2)."
        )
    if unet.config["context_dim"] not in (None, text.width):
        raise ValueError(
            f"{origin}: the UNet attends to tokens {unet.config['context_dim']} wide, and the text "
            f"encoder's are {text.width or 'not there'}; they are of different models."
        )


def _vector(dim: int | None) -> str:
    return "no vector" if dim is None else f"a vector of {dim} numbers"


def _require_parts(folder: Path, index: dict[str, Any]) -> None:
    """ValueError for parts that the index names, or that every such model has, and are missing."""
    named = [part for part in (*PARTS, "image_encoder") if (index.get(part) or [None])[0]]
    if not named and index.get("_class_name") != OWN_PIPELINE:
        named = ["text_encoder"]
    if "image_encoder" in named:
        raise ValueError(
            f"{folder} has an image_encoder ({index.get('_class_name')}): it is conditioned by "
            "pictures; only models conditioned by text, by classes or by nothing can be read."
        )
    missing = [name for name in (*CONFIGS, *named) if not (folder / name).is_dir()]
    if missing:
        raise ValueError(
            f"{folder} is no complete model: {', '.join(f'{name}/' for name in missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Copy the whole folder."
        )


def pictures_px(folder: Path) -> int:
    """The side of the pictures of a folder's model, by its configuration alone."""
    _require_parts(folder, _index(folder))
    return size_px(folder, stride=empty_autoencoder(folder / "vae").stride)


def size_px(folder: Path, *, stride: int) -> int:
    """The pictures' side: ours say it, others by the UNet's sample size, as pipelines take it."""
    index = read(folder / INDEX)
    require(folder / INDEX, index, {"size_px": COUNT})
    if "size_px" in index:
        return int(index["size_px"])
    file = folder / "unet" / CONFIG
    size = read(file).get("sample_size")
    if not (isinstance(size, int) and size > 0):
        raise ValueError(
            f"{file}: sample_size = {size!r}, but the side of the latents is needed (64 for "
            "pictures of 512 px with Stable Diffusion's autoencoder). Write it there."
        )
    return size * stride
