"""What a ``_target_`` may name, and the settings that it takes: those of its own signature."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple

from ldm.apps.errors import UserError, suggestion
from ldm.apps.schema.annotation import alternatives, is_part, is_plain
from ldm.ranges import Above, Below, Decay, Length, NonNegative, Positive

# Parts are made of networks, mathematics, data and measures; nothing in these floors acts on files
# by being called with settings, as functions of ldm.manifest or ldm.interop would.
ALLOWED = (
    "ldm.apps.evaluations.", "ldm.autoencoders.", "ldm.backbones.", "ldm.callbacks.loggers.",
    "ldm.data.sources.", "ldm.diffusion.", "ldm.losses.", "ldm.metrics.", "ldm.nn.", "ldm.tasks.",
    "ldm.text.", "torch.optim.",
)  # fmt: skip
# Torch says of its optimizers' settings that they are floats; which ones, it says when it is given
# another. This holds for all of them.
_OPTIMIZERS: dict[str, Any] = {
    "lr": Positive,
    "betas": Annotated[Sequence[Decay], Length(2)],
    "momentum": Decay,
    "weight_decay": NonNegative,
    "eps": Positive,
    "alpha": Annotated[float, Above(0), Below(1)],
    "fused": bool | None,
    "foreach": bool | None,
}


class Setting(NamedTuple):
    """What a constructor is given by a configuration."""

    annotation: Any
    is_required: bool


class Constructor(NamedTuple):
    """Something that a ``_target_`` names."""

    name: str
    settings: Mapping[str, Setting]
    takes_any: bool = False


def constructor(path: str, target: str) -> Any:
    """What a ``_target_`` names; UserError where it does not exist or is not ours to call."""
    if not target.startswith(ALLOWED):
        raise UserError(
            f"{path}._target_={target} is not allowed; it must begin with {' or '.join(ALLOWED)}."
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        close = _suggestion(module, name)
        raise UserError(f"{path}._target_={target} does not exist: {error}. {close}") from error
    if not f"{getattr(found, '__module__', '')}.".startswith(ALLOWED):
        raise UserError(
            f"{path}._target_={target} is not allowed: {name} is only imported there, from "
            f"{getattr(found, '__module__', 'elsewhere')}."
        )
    return found


def described(path: str, target: str) -> list[Constructor]:
    """Whoever takes settings of the part at ``path``: its constructor, and who shares its group."""
    takers = [constructor(path, target)]
    if target.startswith("ldm.data.sources."):  # imported late, for it brings torch
        from ldm.data.preparing.picture_rules import PictureRules
        from ldm.data.preparing.prepare import Preparing

        takers += [PictureRules, Preparing]
    return [_described(taker) for taker in takers]


def settings_taken(made: Any) -> Iterable[str]:
    """The names of the settings that a constructor takes."""
    return _described(made).settings


@cache
def _described(made: Any) -> Constructor:
    known = _OPTIMIZERS if str(made.__module__).startswith("torch.") else {}
    parameters = inspect.signature(made, eval_str=True).parameters
    found = {}
    for name, parameter in parameters.items():
        annotation = known.get(name, parameter.annotation)
        has_default = parameter.default is not inspect.Parameter.empty
        # What code passes on is positional, or nothing that a configuration could say.
        named = parameter.kind is inspect.Parameter.KEYWORD_ONLY or has_default
        if named and (is_plain(annotation) or _holds_part(annotation)):
            found[name] = Setting(annotation, not has_default)
    any_kind = (p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return Constructor(made.__name__, found, any(any_kind))


def _holds_part(annotation: Any) -> bool:
    return all(is_part(each) or is_plain(each) for each in alternatives(annotation))


def _suggestion(module: str, name: str) -> str:
    """The nearest name in a module of ours, or the nearest module in its package."""
    package, _, last = module.rpartition(".")
    if not module.startswith("ldm."):
        return f"See {package or module}'s own names."
    try:
        found = importlib.import_module(module)
    except ImportError:
        try:
            inside = importlib.import_module(package).__path__
        except (ImportError, AttributeError):
            return f"There is no package {package} either."
        return suggestion(last, [each.name for each in pkgutil.iter_modules(inside)])
    public = [n for n, value in vars(found).items() if callable(value) and not n.startswith("_")]
    return suggestion(name, [n for n in public if vars(found)[n].__module__ == module])
