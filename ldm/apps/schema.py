"""A configuration against the table of settings: unknown keys, wrong types, wrong arguments."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ldm.apps.errors import UserError, suggestion
from ldm.apps.settings import PARTS, SETTINGS, Rule, rule_of

_LOGGERS = "pytorch_lightning.loggers."
# Parts are made of networks, mathematics, data and measures; nothing in these floors acts on files
# by being called with settings, as functions of ldm.manifest or ldm.interop would.
ALLOWED = (
    "ldm.apps.evaluations.", "ldm.autoencoders.", "ldm.backbones.", "ldm.data.sources.",
    "ldm.diffusion.", "ldm.losses.", "ldm.metrics.", "ldm.nn.", "ldm.tasks.", "ldm.text.",
    "torch.optim.", _LOGGERS,
)  # fmt: skip


def check_schema(command: str, config: DictConfig) -> None:
    """UserError for the first unknown key, value that does not fit, or argument nobody takes.

    Values that are still missing or interpolated to missing ones are left to the caller. ``run``
    takes a recipe's own settings and is not described here.
    """
    rules = SETTINGS.get(command)
    if rules is None:
        return
    for key in config:
        if key not in rules:
            raise UserError(
                f"{key!r} is not a setting of `ldm {command}`. {suggestion(str(key), rules)}"
            )
        part = PARTS.get((command, str(key)), {})
        for name in config[key] if part and not OmegaConf.is_missing(config, str(key)) else ():
            if name not in part:
                raise UserError(
                    f"'{key}.{name}' is not a setting of `ldm {command}`. "
                    f"{suggestion(str(name), part)}"
                )
            _check_value(f"{key}.{name}", _value(config[key], str(name)), part[name])
        _check_value(str(key), _value(config, str(key)), rules[key])
    for path, node in _targets(config):
        _check_target(path, node)


_UNKNOWN = object()


def _check_value(name: str, value: Any, rule: Rule) -> None:
    fits, wanted = rule
    if value is not _UNKNOWN and not fits(value):
        raise UserError(f"{name}={value!r} does not fit: it must be {wanted}.")


def _value(config: DictConfig, key: str) -> Any:
    if OmegaConf.is_missing(config, key):
        return _UNKNOWN
    try:
        value = config[key]
        return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
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
    made = constructor(path, target)
    takers = [made, *(_common_to_sources() if path == "data" else ())]
    given = {str(key) for key in node} - {"_target_", "_partial_"}
    for taker in takers:
        _check_arguments(path, node, taker, given)
    known = [parameters_of(taker) for taker in takers]
    if any(_takes_any(parameters) for parameters in known):
        return
    for key in sorted(given - {name for parameters in known for name in parameters}):
        names = [name for parameters in known for name in parameters]
        raise UserError(
            f"'{path}.{key}' is not a setting of {made.__name__}. {suggestion(key, names)}"
        )


def _common_to_sources() -> tuple[Any, ...]:
    """What takes settings of ``data`` beside the source; imported late, for it brings torch."""
    from ldm.data.preparing.picture_rules import PictureRules
    from ldm.data.preparing.prepare import Preparing

    return PictureRules, Preparing


def constructor(path: str, target: str) -> Any:
    """What a ``_target_`` names; UserError where it does not exist or is not ours to call."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path}._target_={target} does not exist: {error}.") from error
    if not f"{getattr(found, '__module__', '')}.".startswith(ALLOWED):
        raise UserError(
            f"{path}._target_={target} is not allowed: {name} is only imported there, from "
            f"{getattr(found, '__module__', 'elsewhere')}."
        )
    return found


def parameters_of(made: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments that a constructor takes, with their types."""
    return inspect.signature(made, eval_str=True).parameters


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _check_arguments(path: str, node: DictConfig, made: Any, given: set[str]) -> None:
    """That those of the ``given`` settings that a constructor takes fit it, and none is missing."""
    parameters = parameters_of(made)
    if _takes_any(parameters):
        return
    for key in sorted(given & parameters.keys()):
        value = _value(node, key)
        fits, wanted = rule_of(parameters[key].annotation)
        unresolved = value is _UNKNOWN or "${" in str(value)
        if not (unresolved or isinstance(value, dict) or fits(value)):
            raise UserError(
                f"{path}.{key}={value!r} does not fit {made.__name__}: it must be {wanted}."
            )
    if not node.get("_partial_", False):
        required = {key for key, p in parameters.items() if p.default is inspect.Parameter.empty}
        for key in sorted(required - given):
            raise UserError(f"'{path}.{key}' is missing: {made.__name__} needs it.")
