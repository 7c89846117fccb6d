"""A whole model as a folder: diffusers' layout, one sub-folder per part, and back.

The text tower comes in either of two layouts: open_clip's, with the image tower it was trained
with, or that of transformers, by itself.
"""

from pathlib import Path
from typing import Any

from ldm.backbones.unet import UNet
from ldm.diffusion.denoiser import Denoiser
from ldm.generation import TextToImage
from ldm.interop.diffusers import (
    SCHEDULER_CONFIG,
    read_autoencoder,
    read_scale,
    read_schedule,
    read_unet,
    write_autoencoder,
    write_schedule,
    write_unet,
)
from ldm.interop.diffusers_files import CONFIG, read
from ldm.interop.transformers import read_text_encoder, write_text_encoder
from ldm.interop.transformers_tokenizer import read_pad_id, write_tokenizer
from ldm.manifest import read_json, write_json
from ldm.text.clip import CONFIG_FILE, ClipText, ClipTowers
from ldm.text.clip_text_tower import ClipTextTower

INDEX = "model_index.json"
PIPELINE, INPAINTING_PIPELINE = "StableDiffusionPipeline", "StableDiffusionInpaintPipeline"
INPAINTING_CHANNELS = 9  # Stable Diffusion's: latents 4, mask 1, latents of the masked picture 4
CONFIGS = {"unet": CONFIG, "vae": CONFIG, "scheduler": SCHEDULER_CONFIG}
TRANSFORMERS_PARTS = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}


def write_pipeline(
    model: TextToImage, towers: ClipTowers | ClipTextTower, folder: str | Path
) -> None:
    """Write unet/, scheduler/, vae/ (with the latent statistics), text_encoder/; the index last."""
    folder = Path(folder)
    denoiser = model.denoiser
    assert isinstance(denoiser.network, UNet)
    latent_size = model.size_px // model.autoencoder.stride
    write_unet(denoiser.network, folder / "unet", sample_size=latent_size)
    write_schedule(denoiser.schedule, denoiser.prediction, folder / "scheduler")
    write_autoencoder(
        model.autoencoder, folder / "vae", scale=model.scale, sample_size=model.size_px
    )
    if isinstance(towers, ClipTowers):
        towers.save(folder / "text_encoder")
        text = {"text_encoder": ["open_clip", "CLIP"]}
    else:
        write_text(model.text_encoder, folder)
        text = TRANSFORMERS_PARTS
    index = {"_class_name": pipeline_class(model), "size_px": model.size_px}
    write_json(folder / INDEX, index | classes(folder) | text)


def pipeline_class(model: TextToImage) -> str:
    """The name of diffusers' class for such a model."""
    return INPAINTING_PIPELINE if model.inpaints else PIPELINE


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


def write_text(text_encoder: ClipText, folder: Path) -> None:
    """Write text_encoder/ and tokenizer/ as transformers reads them."""
    write_text_encoder(text_encoder, folder / "text_encoder")
    tokenize = text_encoder.tokenize
    write_tokenizer(
        folder / "tokenizer", context_length=tokenize.context_length, pad_id=tokenize.pad_id
    )


def read_towers(folder: str | Path) -> ClipTowers | ClipTextTower:
    """The text tower of a model folder, with its image tower where that lies there too."""
    folder = Path(folder)
    part = folder / "text_encoder"
    if (part / CONFIG).is_file() and not (part / CONFIG_FILE).is_file():
        return read_text_encoder(part, pad_id=read_pad_id(folder / "tokenizer"))
    return ClipTowers.load(part)


def read_pipeline(folder: str | Path) -> TextToImage:
    """The model that ``write_pipeline`` wrote, or a published one, frozen and in eval mode.

    ValueError naming the parts that are missing, the option that is not supported, or the widths
    of parts that do not fit together.
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise ValueError(
            f"{folder} is no complete model ({INDEX} is missing); a finished `ldm train` of stage "
            "diffusion writes one."
        )
    index = read_json(folder / INDEX)
    _require_parts(folder, index)
    schedule, prediction = read_schedule(folder / "scheduler")
    model = TextToImage(
        denoiser=Denoiser(
            network=read_unet(folder / "unet"), schedule=schedule, prediction=prediction
        ),
        autoencoder=read_autoencoder(folder / "vae"),
        text_encoder=ClipText(read_towers(folder)),
        scale=read_scale(folder / "vae"),
        size_px=0,
    )
    model.size_px = _size_px(folder, index, model.autoencoder.stride)
    require_fit(model, str(folder))
    return model.requires_grad_(False).eval()


def require_fit(model: TextToImage, origin: str) -> None:
    """ValueError where the parts of a model do not belong together."""
    unet, latent = model.denoiser.network, model.autoencoder.latent_channels
    assert isinstance(unet, UNet)
    width = model.text_encoder.width
    if unet.vector_dim is not None:
        raise ValueError(
            f"{origin}: the UNet takes a vector of {unet.vector_dim} numbers beside the prompt's "
            "tokens (Stable Diffusion XL), which this text encoder does not give; such models "
            "cannot be read as a whole, only their parts."
        )
    inpaints = unet.in_channels == INPAINTING_CHANNELS and latent == 4
    if unet.out_channels != latent or not (inpaints or unet.in_channels == latent):
        raise ValueError(
            f"{origin}: the UNet maps {unet.in_channels} channels to {unet.out_channels}, and the "
            f"autoencoder's latents have {latent}; only models from text to image can be read, and "
            f"those for inpainting with Stable Diffusion's {INPAINTING_CHANNELS} channels to 4."
        )
    if unet.config["context_dim"] not in (None, width):
        raise ValueError(
            f"{origin}: the UNet attends to tokens {unet.config['context_dim']} wide, and the text "
            f"encoder's are {width} wide; they are of different models."
        )


def _require_parts(folder: Path, index: dict[str, Any]) -> None:
    missing = [name for name in (*CONFIGS, "text_encoder") if not (folder / name).is_dir()]
    if missing:
        raise ValueError(
            f"{folder} is no complete model: {', '.join(f'{name}/' for name in missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Copy the whole folder."
        )
    more = [name for name in ("text_encoder_2", "image_encoder") if (index.get(name) or [None])[0]]
    if more:
        raise ValueError(
            f"{folder} has a {more[0]} ({index.get('_class_name')}); only models with one text "
            "encoder, as Stable Diffusion 1, can be read as a whole."
        )


def _size_px(folder: Path, index: dict[str, Any], stride: int) -> int:
    """The pictures' side: ours say it, others by the UNet's sample size, as pipelines take it."""
    if "size_px" in index:
        return int(index["size_px"])
    file = folder / "unet" / CONFIG
    size = read(file).get("sample_size")
    if not isinstance(size, int):
        raise ValueError(
            f"{file}: sample_size = {size!r}, but the side of the latents is needed (64 for "
            "pictures of 512 px with Stable Diffusion's autoencoder). Write it there."
        )
    return size * stride
