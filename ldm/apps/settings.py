"""Which settings each command has, and what their values may be."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from ldm.apps.durations import is_duration
from ldm.data.workers import STOP_SIGNALS

Rule = tuple[Callable[[Any], bool], str]


def _number(low: float, *, whole: bool = False, optional: bool = False) -> Rule:
    kind = "a whole number" if whole else "a number"

    def fits(value: Any) -> bool:
        if value is None:
            return optional
        types = (int,) if whole else (int, float)
        return isinstance(value, types) and not isinstance(value, bool) and value >= low

    return fits, f"{kind} of at least {low:g}" + (" or null" if optional else "")


def _one_of(*names: Any) -> Rule:
    words = ["null" if name is None else str(name) for name in names]
    return lambda value: value in names, "one of " + ", ".join(words)


def _text(*, optional: bool = False) -> Rule:
    def fits(value: Any) -> bool:
        return (value is None and optional) or isinstance(value, str)

    return fits, "text" + (" or null" if optional else "")


_PART: Rule = (lambda value: value is None or isinstance(value, Mapping), "a group of settings")
_OBJECT: Rule = (
    lambda value: not value or (isinstance(value, Mapping) and "_target_" in value),
    "a group of settings with a _target_",
)
_FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
_POSITIVE: Rule = (
    lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0.0,
    "a number above 0",
)
_SHARE: Rule = (
    lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and 0.0 <= v <= 1.0,
    "a number from 0 to 1",
)


def _fits_interval(value: Any) -> bool:
    if value is None:
        return True
    fits, _ = _number(0)
    whole = isinstance(value, list) and len(value) == 2 and all(map(fits, value))
    return whole and value[0] < value[1] < math.inf


def _fits_numbers(value: Any) -> bool:
    if value is None:
        return True
    fits, _ = _number(0)
    return isinstance(value, list) and all(map(fits, value))


def _fits_signals(value: Any) -> bool:
    return isinstance(value, list) and all(name in STOP_SIGNALS for name in value)


def _fits_runs(value: Any) -> bool:
    if isinstance(value, list):
        return 1 <= len(value) <= 2 and all(isinstance(run, str) for run in value)
    return value is None or isinstance(value, str)


def _fits_channels(value: Any) -> bool:
    fits, _ = _number(0, whole=True)
    return value is None or (isinstance(value, list) and all(map(fits, value)))


def _fits_size(value: Any) -> bool:
    fits, _ = _number(8, whole=True)
    several = isinstance(value, list) and len(value) == 2 and all(map(fits, value))
    return value is None or fits(value) or several


_NUMBERS: Rule = (_fits_numbers, "null or a list of numbers of at least 0")
_SAMPLING: dict[str, Rule] = {
    "sampler": _OBJECT,
    "steps": _number(1, whole=True),
    "guidance": _number(0),
    "guidance_rescale": _SHARE,
    "guidance_interval": (
        _fits_interval,
        "null or two finite numbers [low, high], 0 <= low < high",
    ),
    "spacing": _one_of("trailing", "leading", "linspace", "karras", "diffusers"),
    "seed": _number(0, whole=True),
    "negative": _text(),
    "sizes": _NUMBERS,
    "negative_sizes": _NUMBERS,
    "block": _number(1, whole=True),
    "accelerator": _one_of("cpu", "gpu", "auto"),
    "model": _text(),
}
SETTINGS: dict[str, dict[str, Rule]] = {
    "train": {
        "run": _text(),
        "resume": _one_of("auto", "never"),
        "init": _text(optional=True),
        "seed": _number(0, whole=True),
        "max_steps": _number(1, whole=True),
        "global_batch": _number(1, whole=True),
        "micro_batch": _number(1, whole=True, optional=True),
        "max_micro_pixels": _number(1, whole=True, optional=True),
        "lr": _POSITIVE,
        "warmup_steps": _number(0, whole=True),
        "max_gradient_norm": _POSITIVE,
        "ema_decay": (
            lambda v: v is None or (isinstance(v, float) and 0.0 < v < 1.0),
            "a number between 0 and 1, or null",
        ),
        "checkpoint_every": _number(1, whole=True),
        "keep_checkpoints": _number(1, whole=True),
        "models_every": _number(1, whole=True, optional=True),
        "keep_models": _number(1, whole=True, optional=True),
        "validate_every": _number(1, whole=True),
        "validate_block": _number(1, whole=True),
        "evaluate_every": _number(1, whole=True, optional=True),
        "metrics": _PART,
        "evaluation": _PART,
        "collective_timeout_seconds": _POSITIVE,
        "compare_ranks_every": _number(1, whole=True, optional=True),
        "log_every": _number(1, whole=True),
        "stop_signals": (
            _fits_signals,
            "a list of signals ([] for none), each one of " + ", ".join(STOP_SIGNALS),
        ),
        "max_time": (
            lambda v: v is None or is_duration(v),
            'null or a time in quotes: "HH:MM:SS", or "D-HH:MM:SS" with days',
        ),
        "max_skipped_in_a_row": _number(1, whole=True),
        "replay": _text(optional=True),
        "size": _number(8, whole=True),
        "autoencoder_run": _text(optional=True),
        "text_run": _text(optional=True),
        "weights_dir": _text(),
        "data": _PART,
        "accelerator": _one_of("cpu", "gpu", "auto"),
        "devices": _number(1, whole=True),
        "num_nodes": _number(1, whole=True),
        "strategy": _one_of("auto", "ddp", "fsdp"),
        "activation_checkpointing": _FLAG,
        "compile": _FLAG,
        "force_precision": _FLAG,
        "precision": _one_of(
            "32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true"
        ),
        "logger": _PART,
        "stage": _one_of("text_encoder", "autoencoder", "diffusion"),
        "optimizer": _OBJECT,
        "learning_rate": _OBJECT,
        "flip": _FLAG,
        "text_encoder": _OBJECT,
        "autoencoder": _OBJECT,
        "regularizer": _OBJECT,
        "discriminator": _PART,
        "perceptual": _one_of("lpips", "own", "none"),
        "perceptual_channels": (_fits_channels, "null or a list of channels, counted from 0"),
        "initialization": _PART,
        "channels_last": _FLAG,
        "learn_logvar": _FLAG,
        "gan_watchdog": _one_of("warn", "pause", "stop"),
        "disc_lr": _POSITIVE,
        "loss": _OBJECT,
        "backbone": _OBJECT,
        "schedule": _OBJECT,
        "prediction": _OBJECT,
        "weighting": _OBJECT,
        "sampler": _OBJECT,
        "drop_rate": _SHARE,
        "offset_noise": _SHARE,
        "latent_scale": _one_of("per_channel", "scalar"),
        "preview": _PART,
    },
    "prepare": {
        "data": _PART,
        "out": _text(),
        "processes": _number(1, whole=True, optional=True),
    },
    "cache": {
        "autoencoder_run": _text(),
        "condition": _one_of("text", "classes", "none"),
        "text_run": (_fits_runs, "a run, a list of two runs, or null"),
        "data": _PART,
        "out": _text(),
        "size": _number(8, whole=True, optional=True),
        "buckets": _FLAG,
        "bucket_step": _number(1, whole=True),
        "max_aspect_ratio": _number(1),
        "min_bucket": _number(1, whole=True),
        "max_crop": (lambda v: v is None or _SHARE[0](v), "a number from 0 to 1, or null"),
        "upscale": _FLAG,
        "flip": _FLAG,
        "crops": _number(1, whole=True),
        "seed": _number(0, whole=True),
        "store": _one_of("ids", "features"),
        "block": _number(1, whole=True),
        "accelerator": _one_of("cpu", "gpu", "auto"),
        "devices": _number(1, whole=True),
        "workers": _number(0, whole=True, optional=True),
    },
    "sample": _SAMPLING
    | {
        "prompt": _text(optional=True),
        "prompts": _text(optional=True),
        "num": _number(1, whole=True),
        "size": (_fits_size, "pixels of a square's side, or two [height, width], or null"),
        "out": _text(),
        "image": _text(optional=True),
        "mask": _text(optional=True),
        "strength": (
            lambda v: v is None or (_POSITIVE[0](v) and v <= 1.0),
            "a number above 0, up to 1, or null",
        ),
        "prompt_to": _text(optional=True),
        "seed_to": _number(0, whole=True, optional=True),
        "like": _text(optional=True),
    },
    "evaluate": _SAMPLING
    | {
        "model": _text(optional=True),
        "checkpoint": _number(1, whole=True, optional=True),
        "samples": _text(optional=True),
        "allow_jpeg": _FLAG,
        "reference": _text(optional=True),
        "data": _PART,
        "prompts": _text(optional=True),
        "text_run": _text(optional=True),
        "metrics": _PART,
        "num_samples": _number(1, whole=True, optional=True),
        "weights_dir": _text(),
        "allow_unknown_weights": _FLAG,
        "out": _text(),
        "notes": _text(optional=True),
        "devices": _number(1, whole=True),
    },
    "export": {
        "model": _text(),
        "format": _one_of("diffusers", "single_file"),
        "out": _text(),
        "license": _text(optional=True),
        "metrics_file": _text(optional=True),
    },
    "weights": {"weights_dir": _text()},
    "import": {
        "from": _text(),
        "run": _text(),
        "weights": _one_of("ema", "raw", None),
        "prediction": _OBJECT,
    },
}
_COPIES: dict[str, Rule] = {"cache_dir": _text(optional=True), "cache_gb": _POSITIVE}
PARTS: dict[tuple[str, str], dict[str, Rule]] = {
    ("train", "data"): {
        "root": _text(),
        "workers": _number(0, whole=True),
        "order": _one_of("shuffled", "streamed"),
        "lanes": _number(1, whole=True),
        "max_bad_fraction": _SHARE,
        **_COPIES,
    },
    ("train", "preview"): {
        "prompts": (
            lambda v: isinstance(v, list) and all(isinstance(word, str) for word in v),
            "a list of texts",
        ),
        "num": _number(0, whole=True),
        "steps": _number(1, whole=True),
        "guidance": _number(0),
        "spacing": _one_of("trailing", "leading", "linspace", "karras"),
    },
    ("train", "evaluation"): {
        "num_samples": _number(1, whole=True),
        "block": _number(1, whole=True),
        "allow_unknown_weights": _FLAG,
        "shards": _text(optional=True),
        "steps": _number(1, whole=True),
        "guidance": _number(0),
        "spacing": _one_of("trailing", "leading", "linspace", "karras"),
        "seed": _number(0, whole=True),
    },
    ("cache", "data"): {"root": _text(), **_COPIES},
    ("evaluate", "data"): {"root": _text(optional=True), **_COPIES},
}


def rule_of(hint: Any) -> Rule:
    """What the type annotation of a constructor's argument allows in a configuration."""
    if hint in _OF_TYPE:
        return _OF_TYPE[hint]
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        rules = [rule_of(argument) for argument in arguments]
        words = dict.fromkeys(wanted for _, wanted in rules)
        return lambda value: any(fits(value) for fits, _ in rules), " or ".join(words)
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Sequence):
        fits, wanted = rule_of(arguments[0])
        return (
            lambda value: isinstance(value, list) and all(map(fits, value)),
            f"a list, each {wanted}",
        )
    if isinstance(hint, type):
        return _OBJECT
    return lambda value: True, "anything"


_OF_TYPE: dict[Any, Rule] = {
    int: (lambda v: isinstance(v, int) and not isinstance(v, bool), "a whole number"),
    float: (lambda v: isinstance(v, int | float) and not isinstance(v, bool), "a number"),
    bool: _FLAG,
    str: _text(),
    NoneType: (lambda value: value is None, "null"),
}
