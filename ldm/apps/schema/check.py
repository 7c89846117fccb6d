"""A composed configuration against the schema: unknown keys, wrong values, wrong arguments."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldm.apps.errors import UserError, is_one_letter_off, suggestion
from ldm.apps.schema.annotation import (
    alternatives,
    fits,
    hint,
    is_described,
    is_list,
    is_mapping,
    is_optional,
    is_part,
    wanted,
)
from ldm.apps.schema.commands import STAGES, fields_of, settings_of_command
from ldm.apps.schema.parts import Constructor, described

Where = Callable[[str], str]
"""The dotted key of a mistake -> the end of its sentence: file and line, or nothing."""
_OF_HYDRA = ("_target_", "_partial_")


class Mistake(NamedTuple):
    """What is wrong with a setting, in words."""

    key: str
    text: str


def check_schema(command: str, config: DictConfig, where: Where = lambda key: "") -> None:
    """UserError for the first unknown key, value that does not fit, or argument nobody takes.

    Values that are still missing or interpolated to missing ones are left to the caller.
    """
    for mistake in mistakes(command, config):
        raise UserError(mistake.text + where(mistake.key))


def mistakes(command: str, config: DictConfig) -> Iterator[Mistake]:
    """All of them, those that are found without importing a part first."""
    yield from mistakes_outside_parts(command, config)
    for path, node in _targets(config):
        yield from _of_part(path, node)


def mistakes_outside_parts(command: str, config: DictConfig) -> Iterator[Mistake]:
    """Those in what the command itself is told, which needs no constructor, and so no torch."""
    stage = config.get("stage") if command == "train" else None
    known = settings_of_command(command, stage if stage in STAGES else None)
    if command == "run":
        known |= dict.fromkeys(_used_by_steps(config) - known.keys(), Any)
    owner = f"`ldm {command}`"
    for name in map(str, config):
        if name not in known:
            yield Mistake(name, _unknown_root(command, name, known, stage))
    yield from _of_fields("", config, known, owner)
    for name, annotation in known.items():
        if is_part(annotation) and name not in config and command != "run":
            yield Mistake(name, f"{name!r} is missing: {owner} needs it. Give {name}=NAME.")


def _unknown_root(command: str, name: str, known: Mapping[str, Any], stage: str | None) -> str:
    said = f"{name!r} is not a setting of `ldm {command}`"
    if command == "train":
        owners = [of for of, described in STAGES.items() if name in fields_of(described)]
        if owners:
            return f"{name!r} is a setting of stage={' and '.join(owners)}, not of stage={stage}."
    if command == "run":
        said = f"{name!r} is used by no step of this recipe"
    return f"{said}. {suggestion(name, [*known, 'defaults'])}"


def _used_by_steps(config: DictConfig) -> set[str]:
    """The first names of what a recipe's steps interpolate."""
    steps = config._get_node("steps")
    if not isinstance(steps, ListConfig) or steps._is_none() or steps._is_missing():
        return set()
    words = str(OmegaConf.to_container(steps, resolve=False)).split("${")[1:]
    if not words:  # they are resolved by now, and what they used is not known any more
        return set(map(str, config))
    return {word.partition("}")[0].partition(".")[0] for word in words}


def _of_fields(
    path: str, node: DictConfig, known: Mapping[str, Any], owner: str
) -> Iterator[Mistake]:
    """Of a group's known settings the values, and of its other keys that they are unknown."""
    for key in map(str, node):
        name = f"{path}{key}"
        if key in known:
            yield from _of_value(name, node, key, known[key], owner)
        elif path:  # the root has words of its own
            close = suggestion(name, [f"{path}{other}" for other in known])
            yield Mistake(name, f"{name!r} is not a setting of {owner}. {close}")


def _of_value(
    name: str, parent: DictConfig | ListConfig, key: Any, annotation: Any, owner: str
) -> Iterator[Mistake]:
    child = parent._get_node(key)
    value = _value(parent, key)
    if value is _UNKNOWN:
        return
    if isinstance(value, Mapping) and isinstance(child, DictConfig) and not child._is_none():
        yield from _of_mapping(name, child, annotation, owner)
    elif isinstance(value, list) and isinstance(child, ListConfig) and _described_items(annotation):
        (item,) = _described_items(annotation)
        for i in range(len(child)):
            yield from _of_value(f"{name}.{i}", child, i, item, owner)
    elif not fits(annotation, value) and "${" not in str(value):
        of = "" if owner.startswith("`ldm") else f" {owner}"
        yield Mistake(
            name,
            f"{name}={_shown(value)} does not fit{of}: it must be {wanted(annotation)}."
            f"{hint(annotation, value)}",
        )


def _of_mapping(name: str, node: DictConfig, annotation: Any, owner: str) -> Iterator[Mistake]:
    for each in map(_without_limits, alternatives(annotation)):
        if is_described(each):
            yield from _of_fields(f"{name}.", node, fields_of(each), owner)
            return
        if is_mapping(each):
            item = (get_args(each) or (Any, Any))[1]
            for key in map(str, node):
                yield from _of_value(f"{name}.{key}", node, key, item, owner)
            return
        if is_part(each):
            if "_target_" not in node and (node or not is_optional(annotation)):
                yield _without_target(name, node)
            return
        if each is Any:
            return
    value = OmegaConf.to_container(node)
    yield Mistake(name, f"{name}={_shown(value)} does not fit: it must be {wanted(annotation)}.")


def _without_target(name: str, node: DictConfig) -> Mistake:
    said = f"{name} does not fit: it must be a group of settings with a _target_"
    for key in map(str, node):
        if any(is_one_letter_off(key, other) for other in _OF_HYDRA):
            close = suggestion(key, _OF_HYDRA)
            said = f"'{name}.{key}' is not a setting: {name} must have a _target_. {close}"
            return Mistake(f"{name}.{key}", said)
    parent, _, last = name.rpartition(".")
    around = node._get_parent()
    siblings = [*map(str, around)] if isinstance(around, DictConfig) else []
    close = suggestion(last, [other for other in siblings if other != last])
    return Mistake(name, f"{said}. {close}" if parent and close.startswith("Did") else f"{said}.")


def _targets(config: DictConfig | ListConfig, prefix: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every group with a ``_target_``, however deep, with its dotted key."""
    keys: list[Any] = [*config] if isinstance(config, DictConfig) else [*range(len(config))]
    for key in keys:
        node = config._get_node(key)
        if not isinstance(node, DictConfig | ListConfig) or node._is_interpolation():
            continue
        if node._is_none() or node._is_missing():
            continue
        if isinstance(node, DictConfig) and "_target_" in node:
            yield f"{prefix}{key!s}", node
        yield from _targets(node, f"{prefix}{key!s}.")


def _of_part(path: str, node: DictConfig) -> Iterator[Mistake]:
    """That a constructor exists, is ours to call, and takes the arguments it is given."""
    try:
        takers = described(path, str(node["_target_"]))
    except UserError as error:
        yield Mistake(f"{path}._target_", str(error))
        return
    except OmegaConfBaseException:  # an interpolation to what is still missing
        return
    name = takers[0].name
    known = {key for taker in takers for key in taker.settings}
    given = {str(key) for key in node} - {*_OF_HYDRA}
    for taker in takers:
        taken = {key: setting.annotation for key, setting in taker.settings.items()}
        for key in map(str, node):
            if key in taken:
                yield from _of_value(f"{path}.{key}", node, key, taken[key], taker.name)
    for key in () if any(taker.takes_any for taker in takers) else sorted(given - known):
        close = suggestion(f"{path}.{key}", [f"{path}.{other}" for other in [*known, *_OF_HYDRA]])
        yield Mistake(f"{path}.{key}", f"'{path}.{key}' is not a setting of {name}. {close}")
    if "_partial_" in node:
        yield from _of_value(f"{path}._partial_", node, "_partial_", bool, name)
    yield from _missing(path, takers, given)


def _missing(path: str, takers: list[Constructor], given: set[str]) -> Iterator[Mistake]:
    for taker in takers:
        for key, setting in taker.settings.items():
            if setting.is_required and key not in given:
                yield Mistake(path, f"'{path}.{key}' is missing: {taker.name} needs it.")


_UNKNOWN = object()


def _value(parent: DictConfig | ListConfig, key: Any) -> Any:
    """A setting's value in plain Python; _UNKNOWN where it is, or refers to, a missing one."""
    if OmegaConf.is_missing(parent, key):
        return _UNKNOWN
    try:
        value = parent[key]
        return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        if "Missing" in type(error).__name__ or "Interpolation" in type(error).__name__:
            return _UNKNOWN
        raise


def _described_items(annotation: Any) -> list[Any]:
    """What a list's entries are, where their settings have names."""
    lists = [a for a in map(_without_limits, alternatives(annotation)) if is_list(a)]
    return [item for each in lists for item in get_args(each)[:1] if is_described(item)]


def _without_limits(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _shown(value: Any) -> str:
    """A value, shortened where nobody would read on."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."
