"""Which settings there are and what they may be: unknown keys, wrong types, wrong arguments."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ldm.apps.errors import UserError, suggestion

_LOGGERS = "pytorch_lightning.loggers."
ALLOWED = ("ldm.", "torch.optim.", _LOGGERS)
_DATA_EXTRAS = {"shard_mb", "max_bad_fraction"}  # for `prepare` itself, beside the source's own

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
    return lambda value: value in names, "one of " + ", ".join(map(str, names))


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
_SAMPLING: dict[str, Rule] = {
    "sampler": _OBJECT,
    "steps": _number(1, whole=True),
    "guidance": _number(0),
    "spacing": _one_of("trailing", "leading", "linspace", "karras"),
    "seed": _number(0, whole=True),
    "negative": _text(),
    "block": _number(1, whole=True),
    "accelerator": _one_of("cpu", "gpu"),
    "model": _text(),
}
_ROOTS: dict[str, dict[str, Rule]] = {
    "train": {
        "run": _text(),
        "resume": _one_of("auto", "never"),
        "init": _text(optional=True),
        "seed": _number(0, whole=True),
        "max_steps": _number(1, whole=True),
        "global_batch": _number(1, whole=True),
        "micro_batch": _number(1, whole=True, optional=True),
        "lr": _POSITIVE,
        "warmup_steps": _number(0, whole=True),
        "max_gradient_norm": _POSITIVE,
        "ema_decay": (
            lambda v: v is None or (isinstance(v, float) and 0.0 < v < 1.0),
            "a number between 0 and 1, or null",
        ),
        "checkpoint_every": _number(1, whole=True),
        "keep_checkpoints": _number(1, whole=True),
        "validate_every": _number(1, whole=True),
        "log_every": _number(1, whole=True),
        "size": _number(8, whole=True),
        "autoencoder_run": _text(optional=True),
        "text_run": _text(optional=True),
        "weights_dir": _text(),
        "data": _PART,
        "accelerator": _one_of("cpu", "gpu", "auto"),
        "devices": _number(1, whole=True),
        "num_nodes": _number(1, whole=True),
        "strategy": _one_of("auto", "ddp"),
        "precision": _one_of("32-true", "bf16-mixed", "64-true"),
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
        "initialization": _PART,
        "channels_last": _FLAG,
        "learn_logvar": _FLAG,
        "disc_lr": _POSITIVE,
        "loss": _OBJECT,
        "backbone": _OBJECT,
        "schedule": _OBJECT,
        "prediction": _OBJECT,
        "weighting": _OBJECT,
        "sampler": _OBJECT,
        "drop_rate": (
            lambda v: isinstance(v, (int, float)) and 0.0 <= v <= 1.0,
            "a number from 0 to 1",
        ),
        "latent_scale": _one_of("per_channel", "scalar"),
        "preview": _PART,
    },
    "prepare": {"data": _PART, "out": _text()},
    "cache": {
        "autoencoder_run": _text(),
        "text_run": _text(),
        "data": _PART,
        "out": _text(),
        "size": _number(8, whole=True, optional=True),
        "block": _number(1, whole=True),
        "accelerator": _one_of("cpu", "gpu"),
    },
    "sample": _SAMPLING
    | {
        "prompt": _text(optional=True),
        "prompts": _text(optional=True),
        "num": _number(1, whole=True),
        "out": _text(),
    },
    "evaluate": _SAMPLING
    | {
        "data": _PART,
        "metrics": _PART,
        "num_samples": _number(1, whole=True),
        "weights_dir": _text(),
        "out": _text(),
        "samples": _text(optional=True),
    },
}
_PARTS: dict[tuple[str, str], set[str]] = {
    ("train", "data"): {"root", "workers"},
    ("train", "preview"): {"prompts", "num", "steps", "guidance", "spacing"},
    ("cache", "data"): {"root"},
    ("evaluate", "data"): {"root"},
}


def check_schema(command: str, config: DictConfig) -> None:
    """UserError for the first unknown key, value that does not fit, or argument nobody takes.

    Values that are still missing or interpolated to missing ones are left to the caller. ``run``
    takes a recipe's own settings and is not described here.
    """
    rules = _ROOTS.get(command)
    if rules is None:
        return
    for key in config:
        if key not in rules:
            raise UserError(
                f"{key!r} is not a setting of `ldm {command}`. {suggestion(str(key), rules)}"
            )
        allowed = _PARTS.get((command, str(key)), set())
        for name in config[key] if allowed and not OmegaConf.is_missing(config, str(key)) else ():
            if name not in allowed:
                raise UserError(
                    f"'{key}.{name}' is not a setting of `ldm {command}`. "
                    f"{suggestion(str(name), allowed)}"
                )
        value = _value(config, str(key))
        fits, wanted = rules[key]
        if value is not _UNKNOWN and not fits(value):
            raise UserError(f"{key}={value!r} does not fit: it must be {wanted}.")
    for path, node in _targets(config):
        _check_target(path, node)


_UNKNOWN = object()


def _value(config: DictConfig, key: str) -> Any:
    if OmegaConf.is_missing(config, key):
        return _UNKNOWN
    node = config._get_node(key)
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=False)
    try:
        return config[key]
    except Exception as error:  # an interpolation to a missing value, of any of omegaconf's kinds
        if "Missing" in type(error).__name__ or "Interpolation" in type(error).__name__:
            return _UNKNOWN
        raise


def _targets(config: DictConfig | ListConfig, prefix: str = "") -> Iterator[tuple[str, DictConfig]]:
    nodes: dict[Any, Any] = (
        {key: config._get_node(key) for key in config}
        if isinstance(config, DictConfig)
        else {i: config._get_node(i) for i in range(len(config))}
    )
    for key, node in nodes.items():
        if not isinstance(node, DictConfig | ListConfig) or node._is_interpolation():
            continue
        if node._is_none() or node._is_missing():
            continue
        if isinstance(node, DictConfig) and "_target_" in node:
            yield f"{prefix}{key!s}", node
        yield from _targets(node, f"{prefix}{key!s}.")


def _check_target(path: str, node: DictConfig) -> None:
    """That a constructor exists, is ours to call, and takes the arguments it is given."""
    target = str(node["_target_"])
    # Hydra walks attributes, so a logger's module must not lead on to what it imports.
    logger = not target.startswith(_LOGGERS) or target.removeprefix(_LOGGERS).isidentifier()
    if not target.startswith(ALLOWED) or not logger:
        raise UserError(
            f"{path}._target_={target} is not allowed; it must begin with {' or '.join(ALLOWED)}."
        )
    if target.startswith("pytorch_lightning."):
        return  # its import takes seconds; Lightning checks its own loggers
    module, _, name = target.rpartition(".")
    try:
        constructor = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path}._target_={target} does not exist: {error}.") from error
    parameters = inspect.signature(constructor).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    extras = _DATA_EXTRAS if path == "data" else set()
    given = {str(key) for key in node} - {"_target_", "_partial_"} - extras
    for key in sorted(given - parameters.keys()):
        raise UserError(
            f"'{path}.{key}' is not a setting of {name}. {suggestion(key, parameters.keys())}"
        )
    if not node.get("_partial_", False):
        required = {key for key, p in parameters.items() if p.default is inspect.Parameter.empty}
        for key in sorted(required - given):
            raise UserError(f"'{path}.{key}' is missing: {name} needs it.")
