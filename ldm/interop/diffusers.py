"""The folder format of diffusers: config.json and safetensors per part.

Parameter names are diffusers' own, so weights go in and out key for key. A folder is that of the
part itself, or of a whole pipeline in which the part has its usual name (unet, vae, scheduler).
Pickled weights are never opened.
"""

from pathlib import Path
from typing import Any

import torch

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import KL, VQ, Regularizer
from ldm.backbones.unet import UNet
from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.prediction import Clean, Epsilon, Prediction, Velocity
from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.schedules.linear import linear
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.interop.diffusers_config import (
    AUTOENCODER_BLOCKS,
    AUTOENCODER_DEFAULTS,
    UNET_BLOCKS,
    UNET_DEFAULTS,
    VQ_DEFAULTS,
    checked,
    listed,
    to_ours,
    to_theirs,
    unsupported,
)
from ldm.interop.diffusers_files import CONFIG, filled, find, read, write
from ldm.manifest import write_json

SCHEDULER_CONFIG = "scheduler_config.json"
SIZE_EMBEDDING_DIM = 256  # of SDXL and its refiner, the models whose condition has a vector

_SCHEDULES = {"linear": linear, "scaled_linear": scaled_linear}
_PREDICTIONS: dict[str, type[Epsilon | Velocity | Clean]] = {
    "epsilon": Epsilon,
    "v_prediction": Velocity,
    "sample": Clean,
}
# Of a scheduler's options, those that change the process or its prediction. The rest belongs to
# its sampler, which is not read from the file.
_SCHEDULER_FIXED = {
    "trained_betas": (None,),
    "rescale_betas_zero_snr": (False, None),
    "thresholding": (False, None),
    "use_flow_sigmas": (False, None),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", None),
}


def write_unet(unet: UNet, folder: str | Path, *, sample_size: int | None = None) -> None:
    """Write a UNet as ``UNet2DConditionModel.from_pretrained(folder)`` reads it.

    ``sample_size`` is the latent size (h = w) that pipelines use when none is asked for.
    """
    config = to_theirs(unet.config, UNET_BLOCKS)
    if unet.vector_dim is not None:
        config["addition_embed_type"] = "text_time"
        config["addition_time_embed_dim"] = SIZE_EMBEDDING_DIM
    elif unet.pooling_heads is not None:
        config["addition_embed_type"] = "text"
        config["addition_embed_type_num_heads"] = unet.pooling_heads
    write(unet, folder, config, class_name="UNet2DConditionModel", sample_size=sample_size)


def read_unet(folder: str | Path) -> UNet:
    """The bare backbone of a UNet folder, in fp32 on the CPU.

    ValueError when a file is missing or damaged, or an option is not supported.
    """
    file = find(folder, "unet", CONFIG, made_by="ldm train experiment=demo_diffusion")
    theirs = checked(read(file), file, class_name="UNet2DConditionModel", defaults=UNET_DEFAULTS)
    ours = to_ours(theirs, UNET_BLOCKS, file)
    ours["pooling_heads"] = None
    found = (theirs["addition_embed_type"], theirs["addition_time_embed_dim"])
    if ours["vector_dim"] is None and found == ("text", None):
        ours["pooling_heads"] = theirs["addition_embed_type_num_heads"]
    else:
        allowed = (None, None) if ours["vector_dim"] is None else ("text_time", SIZE_EMBEDDING_DIM)
        if found != allowed:
            option = "(addition_embed_type, addition_time_embed_dim)"
            raise unsupported(file, option, found, allowed)
    with torch.device("meta"):
        unet = UNet(**ours)
    return filled(unet, file.parent)


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
        autoencoder = Autoencoder(image_channels=image_channels, regularizer=regularizer, **ours)
    return filled(autoencoder, file.parent)


def read_scale(folder: str | Path) -> LatentScale:
    """The latent scale in an autoencoder's config.json, per channel where it has statistics.

    normalised = (raw - mean) scaling_factor / std, as diffusers' pipelines compute it.
    """
    file, config = _autoencoder_config(folder)
    mean, std, shift = config["latents_mean"], config["latents_std"], config["shift_factor"]
    factor = float(config["scaling_factor"])
    if mean is None and std is None:
        return LatentScale([float(shift or 0.0)], [1.0 / factor])
    if mean is None or std is None or shift or len(mean) != len(std):
        raise ValueError(
            f"{file}: latents_mean and latents_std must be lists of one length, without a "
            f"shift_factor; found {mean}, {std} and {shift}. Mend the file."
        )
    return LatentScale(mean, [value / factor for value in std])


def write_schedule(schedule: NoiseSchedule, prediction: Prediction, folder: str | Path) -> None:
    """Write scheduler_config.json so that diffusers' DDIM visits our default (trailing) levels."""
    predictions = {kind.name: name for name, kind in _PREDICTIONS.items()}
    name = str(schedule.description["name"])
    if name not in _SCHEDULES or prediction.name not in predictions:
        raise ValueError(
            f"schedule {name!r} with prediction {prediction.name!r} cannot be written for "
            f"diffusers; schedules: {listed(_SCHEDULES)}; predictions: {listed(predictions)}."
        )
    config = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": schedule.num_steps,
        "beta_schedule": name,
        "beta_start": schedule.description["start"],
        "beta_end": schedule.description["end"],
        "prediction_type": predictions[prediction.name],
        "timestep_spacing": "trailing",
        "clip_sample": False,  # latents are not bounded by 1
        "set_alpha_to_one": True,  # the last level is clean
        "steps_offset": 1,  # trailing does not use it; pipelines warn about any other value
    }
    write_json(Path(folder) / SCHEDULER_CONFIG, config)


def read_schedule(folder: str | Path) -> tuple[NoiseSchedule, Prediction]:
    """The noise schedule and prediction of a scheduler folder.

    What concerns only the sampler (its class, spacing, order) is not read. ValueError when the
    file is missing or describes another process.
    """
    made_by = "ldm train experiment=demo_diffusion"
    file = find(folder, "scheduler", SCHEDULER_CONFIG, made_by=made_by)
    config = read(file)
    needed = {"num_train_timesteps", "beta_schedule", "beta_start", "beta_end"}
    if missing := needed - config.keys():  # flow matching, for one, has no betas
        raise ValueError(
            f"{file} ({config.get('_class_name')}) has no {listed(missing)}; only "
            "variance-preserving schedules given by betas can be read."
        )
    for key, allowed in _SCHEDULER_FIXED.items():
        if key in config and config[key] not in allowed:
            raise unsupported(file, key, config[key], allowed[0])
    name, predicted = config["beta_schedule"], config.get("prediction_type", "epsilon")
    if name not in _SCHEDULES:
        raise unsupported(file, "beta_schedule", name, listed(_SCHEDULES))
    if predicted not in _PREDICTIONS:
        raise unsupported(file, "prediction_type", predicted, listed(_PREDICTIONS))
    steps, start, end = (config[key] for key in ("num_train_timesteps", "beta_start", "beta_end"))
    schedule = _SCHEDULES[name](num_steps=steps, start=start, end=end)
    return schedule, _PREDICTIONS[predicted]()


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
