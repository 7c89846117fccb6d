"""The autoencoder's folder in diffusers' format, and the latent scale in its config.json."""

from pathlib import Path
from typing import Any

import torch

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import KL, VQ, Regularizer
from ldm.diffusion.latent_scale import LatentScale
from ldm.interop.diffusers_config import (
    AUTOENCODER_BLOCKS,
    AUTOENCODER_DEFAULTS,
    VQ_DEFAULTS,
    checked,
    to_ours,
    to_theirs,
    unsupported,
)
from ldm.interop.diffusers_files import CONFIG, filled, find, read, write


def write_autoencoder(
    autoencoder: Autoencoder,
    folder: str | Path,
    *,
    scale: LatentScale | None,
    sample_size: int | None = None,
) -> None:
    """Write an autoencoder as diffusers' ``from_pretrained(folder)`` reads it.

    One with KL is their AutoencoderKL, one with VQ their VQModel. ``scale`` goes into config.json:
    one value as scaling_factor (and shift_factor where the mean is not 0), several as latents_mean
    and latents_std with a scaling_factor of 1. None is the identity. VQModel itself knows the
    scaling_factor only. ``sample_size`` is the image size in pixels.
    """
    regularizer = autoencoder.regularizer
    config = to_theirs(autoencoder.config, AUTOENCODER_BLOCKS)
    config["in_channels"] = config["out_channels"] = autoencoder.config["image_channels"]
    config["force_upcast"] = autoencoder.force_upcast
    config |= _written_scale(scale)
    if isinstance(regularizer, KL):
        class_name = "AutoencoderKL"
    elif isinstance(regularizer, VQ):
        class_name = "VQModel"
        config["num_vq_embeddings"] = regularizer.num_codes
        config["vq_embed_dim"] = regularizer.latent_channels
    else:
        name = type(regularizer).__name__
        raise ValueError(f"only KL and VQ autoencoders have a diffusers folder, found {name}.")
    write(autoencoder, folder, config, class_name=class_name, sample_size=sample_size)


def read_autoencoder(folder: str | Path) -> Autoencoder:
    """The autoencoder of a folder (AutoencoderKL or VQModel), in fp32 on the CPU.

    A codebook's folder does not say how it was trained: its loss is the published one and no code
    is restarted. ValueError when a file is missing or damaged, or an option is not supported.
    """
    file, _ = _autoencoder_config(folder)
    return filled(empty_autoencoder(file.parent), file.parent)


def empty_autoencoder(folder: str | Path) -> Autoencoder:
    """The same without its weights, on the meta device."""
    file, theirs = _autoencoder_config(folder)
    ours = to_ours(theirs, AUTOENCODER_BLOCKS, file)
    image_channels, out_channels = ours.pop("in_channels"), ours.pop("out_channels")
    if out_channels != image_channels:
        raise unsupported(file, "out_channels", out_channels, image_channels)
    with torch.device("meta"):
        regularizer: Regularizer = KL()
        if "num_vq_embeddings" in theirs:
            regularizer = VQ(
                num_codes=theirs["num_vq_embeddings"],
                dim=theirs["vq_embed_dim"] or theirs["latent_channels"],
                beta=0.25,
                loss_weight=1.0,
                restart_rate=0.0,
            )
        try:
            found = Autoencoder(image_channels=image_channels, regularizer=regularizer, **ours)
        except ValueError as error:
            raise ValueError(f"{file} does not describe an autoencoder: {error}") from error
    found.force_upcast = bool(theirs["force_upcast"])
    return found


def read_scale(folder: str | Path) -> LatentScale:
    """The latent scale in an autoencoder's config.json, per channel where it has statistics.

    normalised = (raw - mean) scaling_factor / std, as diffusers' pipelines compute it.
    """
    file, config = _autoencoder_config(folder)
    mean, std, shift = config["latents_mean"], config["latents_std"], config["shift_factor"]
    factor = float(config["scaling_factor"])
    if mean is None and std is None:
        return LatentScale([float(shift or 0.0)], [1.0 / factor])
    channels = config["latent_channels"]
    if (
        mean is None or std is None or shift
        or {len(mean), len(std)} != {channels} or min(std) <= 0.0
    ):  # fmt: skip
        raise ValueError(
            f"{file}: latents_mean and latents_std must be lists of {channels} numbers, one for "
            "each channel, the latter above 0, without a shift_factor; found "
            f"{mean}, {std} and {shift}. Mend the file."
        )
    return LatentScale(mean, [value / factor for value in std])


def _autoencoder_config(folder: str | Path) -> tuple[Path, dict[str, Any]]:
    file = find(folder, "vae", CONFIG, made_by="ldm train experiment=demo_autoencoder")
    config = read(file)
    if config.get("_class_name") == "VQModel":
        ours = dict.fromkeys(("shift_factor", "latents_mean", "latents_std"))  # we write these too
        return file, checked(config, file, class_name="VQModel", defaults=VQ_DEFAULTS | ours)
    return file, checked(config, file, class_name="AutoencoderKL", defaults=AUTOENCODER_DEFAULTS)


def _written_scale(scale: LatentScale | None) -> dict[str, Any]:
    # Without a scaling_factor diffusers would silently assume Stable Diffusion's.
    if scale is None:
        return {"scaling_factor": 1.0}
    mean, std = scale.mean.flatten().tolist(), scale.std.flatten().tolist()
    if len(mean) > 1:
        return {"scaling_factor": 1.0, "latents_mean": mean, "latents_std": std}
    shift = {"shift_factor": mean[0]} if mean[0] else {}
    return {"scaling_factor": 1.0 / std[0], **shift}
