"""The folder format of diffusers: config.json and safetensors per part.

Parameter names are diffusers' own, so weights go in and out key for key. A folder is that of the
part itself, or of a whole pipeline in which the part has its usual name (unet, vae, scheduler).
Pickled weights are never opened.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import KL, VQ, Regularizer
from ldm.backbones.unet import UNet
from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.prediction import Clean, Epsilon, Flow, Prediction, Velocity
from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.schedules.cosine import cosine
from ldm.diffusion.schedules.flow import flow
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
OWN_UNET = "ldm.UNet"  # the class name of a UNet that diffusers has no class for
_TIME_SHIFT = {False: "default", True: "scale_shift"}  # adaptive_norm in their words
SIZE_EMBEDDING_DIM = 256  # of SDXL and its refiner, the models whose condition has a vector

# Their names of schedules given by betas, with our function and the options that it takes.
_SCHEDULES: dict[str, tuple[Callable[..., NoiseSchedule], dict[str, str]]] = {
    "linear": (linear, {"start": "beta_start", "end": "beta_end"}),
    "scaled_linear": (scaled_linear, {"start": "beta_start", "end": "beta_end"}),
    "squaredcos_cap_v2": (cosine, {}),
}
_PREDICTIONS: dict[str, type[Epsilon | Velocity | Clean | Flow]] = {
    "epsilon": Epsilon,
    "v_prediction": Velocity,
    "sample": Clean,
    "flow_prediction": Flow,
}
_FLOW_SCHEDULER = "FlowMatchEulerDiscreteScheduler"
# Their networks of flow matching count t from 1 to T, ours from 0; so this option of ours marks
# files whose networks are ours.
_FIRST_STEP = "first_timestep"
# Of a scheduler's options, those that change the process or its prediction. The rest belongs to
# its sampler, which is not read from the file.
_SCHEDULER_FIXED = {
    "trained_betas": (None,),
    "thresholding": (False, None),
    "use_flow_sigmas": (False, None),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", None),
}


def write_unet(unet: UNet, folder: str | Path, *, sample_size: int | None = None) -> None:
    """Write a UNet as ``UNet2DConditionModel.from_pretrained(folder)`` reads it.

    A network with plain attention or residual resampling, which that class lacks, is written with
    our own arguments under the class name ``ldm.UNet``.
    ``sample_size`` is the latent size (h = w) that pipelines use when none is asked for.
    """
    if unet.config["residual_resampling"] or 0 in unet.config["transformer_depth"]:
        # Dhariwal and Nichol's blocks: diffusers' conditional UNet has none, so the words are ours.
        write(unet, folder, unet.config, class_name=OWN_UNET, sample_size=sample_size)
        return
    config = to_theirs(unet.config, UNET_BLOCKS)
    config["resnet_time_scale_shift"] = _TIME_SHIFT[unet.config["adaptive_norm"]]
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
    found = read(file)
    if found.get("_class_name") == OWN_UNET:
        ours = {k: v for k, v in found.items() if not k.startswith("_") and k != "sample_size"}
        return _filled_unet(ours, file)
    theirs = checked(found, file, class_name="UNet2DConditionModel", defaults=UNET_DEFAULTS)
    ours = to_ours(theirs, UNET_BLOCKS, file)
    if (norm := theirs["resnet_time_scale_shift"]) not in _TIME_SHIFT.values():
        raise unsupported(file, "resnet_time_scale_shift", norm, tuple(_TIME_SHIFT.values()))
    ours |= {"adaptive_norm": norm == _TIME_SHIFT[True], "residual_resampling": False}
    ours["pooling_heads"] = None
    addition = (theirs["addition_embed_type"], theirs["addition_time_embed_dim"])
    if ours["vector_dim"] is None and addition == ("text", None):
        ours["pooling_heads"] = theirs["addition_embed_type_num_heads"]
    else:
        allowed = (None, None) if ours["vector_dim"] is None else ("text_time", SIZE_EMBEDDING_DIM)
        if addition != allowed:
            option = "(addition_embed_type, addition_time_embed_dim)"
            raise unsupported(file, option, addition, allowed)
    return _filled_unet(ours, file)


def _filled_unet(ours: dict[str, Any], file: Path) -> UNet:
    try:
        with torch.device("meta"):
            unet = UNet(**ours)
    except TypeError as error:
        raise ValueError(f"{file} does not describe a UNet of this version: {error}.") from error
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
    """Write scheduler_config.json so that diffusers visits our default (trailing) levels."""
    config: dict[str, Any] = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": schedule.num_steps,
        "prediction_type": _their_prediction(prediction),
    }
    if schedule.description["name"] == "flow":
        config |= {"_class_name": _FLOW_SCHEDULER, "shift": 1.0, _FIRST_STEP: 0}
    else:
        config |= _written_betas(schedule) | {
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
    for key, allowed in _SCHEDULER_FIXED.items():
        if key in config and config[key] not in allowed:
            raise unsupported(file, key, config[key], allowed[0])
    predicted = config.get("prediction_type", "epsilon")
    if predicted not in _PREDICTIONS:
        raise unsupported(file, "prediction_type", predicted, listed(_PREDICTIONS))
    prediction = _PREDICTIONS[predicted]()
    if config.get("_class_name") == _FLOW_SCHEDULER:
        if (config.get(_FIRST_STEP), config.get("shift", 1.0)) != (0, 1.0):
            raise ValueError(
                f"{file} ({_FLOW_SCHEDULER}) was not written by `ldm train`: networks of other "
                "origin count the steps of flow matching otherwise, so it cannot be read."
            )
        return flow(num_steps=config["num_train_timesteps"]), prediction
    return _read_betas(config, file), prediction


def _their_prediction(prediction: Prediction) -> str:
    names = {kind.name: name for name, kind in _PREDICTIONS.items()}
    if prediction.name not in names:
        raise ValueError(
            f"prediction {prediction.name!r} cannot be written for diffusers; only {listed(names)}."
        )
    return names[prediction.name]


def _written_betas(schedule: NoiseSchedule) -> dict[str, Any]:
    """A variance-preserving schedule in diffusers' words."""
    names = {function.__name__: name for name, (function, _) in _SCHEDULES.items()}
    ours = str(schedule.description["name"])
    if ours not in names:
        raise ValueError(
            f"schedule {ours!r} cannot be written for diffusers; only {listed(names)} and flow."
        )
    _, options = _SCHEDULES[names[ours]]
    return {
        "beta_schedule": names[ours],
        **{key: schedule.description[name] for name, key in options.items()},
        "rescale_betas_zero_snr": bool(schedule.description.get("zero_terminal_snr", False)),
    }


def _read_betas(config: dict[str, Any], file: Path) -> NoiseSchedule:
    name = config.get("beta_schedule")
    needed = {"num_train_timesteps", "beta_schedule"}
    needed |= set(_SCHEDULES[name][1].values()) if name in _SCHEDULES else set()
    if missing := needed - config.keys():  # flow matching, for one, has no betas
        raise ValueError(
            f"{file} ({config.get('_class_name')}) has no {listed(missing)}; only "
            "variance-preserving schedules given by betas can be read."
        )
    if name not in _SCHEDULES:
        raise unsupported(file, "beta_schedule", name, listed(_SCHEDULES))
    function, options = _SCHEDULES[name]
    return function(
        num_steps=config["num_train_timesteps"],
        zero_terminal_snr=bool(config.get("rescale_betas_zero_snr")),
        **{ours: config[key] for ours, key in options.items()},
    )


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
