"""The scheduler's folder in diffusers' format: noise schedule and prediction, no sampler."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ldm.diffusion.prediction import Clean, Epsilon, Flow, Prediction, Velocity
from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.schedules.cosine import cosine
from ldm.diffusion.schedules.flow import flow
from ldm.diffusion.schedules.linear import linear
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.interop.config_values import COUNT, FLAG, SHARE, TEXT, require
from ldm.interop.diffusers_config import listed, unsupported
from ldm.interop.diffusers_files import find, read
from ldm.manifest import write_json

SCHEDULER_CONFIG = "scheduler_config.json"

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
_KINDS = {
    "num_train_timesteps": COUNT, "beta_start": SHARE, "beta_end": SHARE,
    "beta_schedule": TEXT, "prediction_type": TEXT, "rescale_betas_zero_snr": FLAG,
}  # fmt: skip


def write_schedule(schedule: NoiseSchedule, prediction: Prediction, folder: str | Path) -> None:
    """Write scheduler_config.json so that diffusers visits our default (trailing) levels."""
    config: dict[str, Any] = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": schedule.num_steps,
        "prediction_type": their_prediction(prediction),
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
    require(file, config, _KINDS)
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


def their_prediction(prediction: Prediction) -> str:
    """Its name in diffusers' scheduler_config.json; ValueError where there is none."""
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
