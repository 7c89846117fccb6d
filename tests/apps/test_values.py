"""A value of the wrong type, or out of range, of any shipped setting is refused in words."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from ldm.apps.compose import draft
from ldm.apps.config_files import config_roots
from ldm.apps.hydra_compose import keys_in
from ldm.apps.origins import origins_of
from ldm.apps.schema.annotation import (
    alternatives,
    is_described,
    is_list,
    is_mapping,
    is_optional,
    is_part,
)
from ldm.apps.schema.check import mistakes
from ldm.apps.schema.commands import STAGES, fields_of, settings_of_command
from ldm.apps.schema.parts import described
from ldm.apps.words import LITERAL
from ldm.apps.yaml_lines import read_yaml_lines
from ldm.ranges import Above, AtLeast, AtMost, Below, Between, Fits, Inside, Length
from tests.apps.shipped_settings import (
    COMMANDS,
    FILES,
    ROOT,
    Case,
    case_of,
    copy_configs,
    kinds_of_settings,
    refusal,
    typed,
)

NONSENSE = "nonsense"


def annotations_of(case: Case, config: DictConfig, key: str) -> list[Any]:
    """What the schema says of a setting: its command, or all who take it of a part."""
    names = key.split(".")
    for length in range(len(names) - 1, 0, -1):
        node = OmegaConf.select(config, ".".join(names[:length]))
        if isinstance(node, DictConfig) and "_target_" in node:
            takers = described(key, node["_target_"])
            taken = [{k: s.annotation for k, s in taker.settings.items()} for taker in takers]
            break
    else:
        stage = config.get("stage")
        length, taken = 0, [settings_of_command(case.command, stage if stage in STAGES else None)]
    roots = [each[names[length]] for each in taken if names[length] in each]
    return [found for root in roots if (found := below(root, names[length + 1 :])) is not None]


def below(annotation: Any, names: list[str]) -> Any:
    """The annotation of what lies under names in a group; None where nothing is known."""
    for name in names:
        each = map(without_limits, alternatives(annotation))
        inner = [a for a in each if is_described(a) or is_mapping(a)]
        if not inner:
            return None
        annotation = (
            fields_of(inner[0]).get(name) if is_described(inner[0]) else get_args(inner[0])[1]
        )
    return annotation


def without_limits(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def wrong_values(annotation: Any) -> list[Any]:
    """Values that an annotation does not allow: of other types, and just outside its range."""
    each = alternatives(annotation)
    bases = [base for one in each for base in alternatives(without_limits(one))]
    if Any in bases or any(is_part(base) for base in bases):
        return []
    wrong: list[Any] = [] if is_optional(annotation) else [None]
    if str in bases:
        wrong += [True] if bool not in bases else [[1]]
    elif not any(map(is_described, bases)):
        wrong.append(NONSENSE)
    if int in bases and float not in bases:
        wrong.append(1.5)
    if bool in bases and int not in bases and float not in bases:
        wrong.append(7)
    if not any(is_list(base) for base in bases) and str not in bases:
        wrong.append([NONSENSE])
    if len([one for one in each if one not in (None, NoneType)]) == 1:
        for alternative in each:
            wrong += outside(alternative)
    return wrong


def outside(annotation: Any) -> Iterator[Any]:
    """Values of the right type that its limits exclude."""
    base, *limits = (
        get_args(annotation) if get_origin(annotation) is Annotated else (annotation, None)
    )
    if is_list(base):
        (item,) = get_args(base) or (Any,)
        if not is_described(item):
            yield from ([value] for value in wrong_values(item))
    kind = float if base is float else int
    for limit in limits:
        match limit:
            case AtLeast(low):
                yield kind(low - 1)
            case Above(low):
                yield kind(low)
            case AtMost(high):
                yield kind(high + 1)
            case Below(high):
                yield kind(high)
            case Between(low, high):
                yield from (kind(low - 1), kind(high + 1))
            case Inside(low, high):
                yield from (kind(low), kind(high))
            case Length(low, high):
                yield [1] * (low - 1)
            case Fits():
                yield from (v for v in (["?"] if base is str else [[]]) if not limit.admits(v))


def settings_with_wrong_values(
    case: Case, config: DictConfig, keys: list[str]
) -> Iterator[tuple[str, Any]]:
    for key in keys:
        values = [wrong_values(a) for a in annotations_of(case, config, key)]
        if values:
            yield from ((key, value) for value in min(values, key=len))


def is_in(key: str, group: str) -> bool:
    """Whether a key is this setting, or an entry of it."""
    return f"{key}.".startswith(f"{group}.")


def is_told(message: str, key: str) -> bool:
    """Whether a refusal names the setting, and says what it must be, or which names there are."""
    said = ("it must be", "there is no such configuration")
    is_said = f"{key}=" in message and any(words in message for words in said)
    return is_said and len(message.splitlines()) == 1


def test_every_wrong_value_is_a_mistake():
    """Of all configurations, without Hydra and files, which the tests below have."""
    seen: set[tuple[str, str, str]] = set()
    failures = []
    for case, config in kinds_of_settings():
        for key, value in settings_with_wrong_values(case, config, [*keys_in(config)]):
            above, _, last = key.rpartition(".")
            parent = OmegaConf.select(config, above) if above else config
            around = str(parent.get("_target_") or config.get("stage") or case.command)
            if (mark := (key, around, repr(value))) in seen:
                continue
            seen.add(mark)
            right = parent._get_node(last)
            del parent[last]  # an assignment would change the node that is put back
            parent[last] = value
            found = (m.text for m in mistakes(case.command, config) if is_in(m.key, key))
            if not is_told(message := next(found, ""), key):
                failures.append(f"{case} {key}={value!r}: {message}")
            del parent[last]
            parent[last] = right
    assert not failures, "\n".join([f"{len(failures)} of {len(seen)}", *failures])
    assert len(seen) > 900


@cache
def configuration(case: Case) -> DictConfig:
    return draft(case.command, case.words).config


def failure_typed(case: Case, key: str, value: Any) -> str:
    """What is wrong with the answer to a typed value; or nothing."""
    message = refusal(case.command, [*case.words, f"{key}={json.dumps(value)}"])
    is_of_file = message.endswith(")") and ".yaml:" in message
    right = is_told(message, key) and not is_of_file
    return "" if right else f"{case} {key}={json.dumps(value)}: {message}"


@pytest.mark.parametrize(
    "command, key, value",
    [
        ("train", "lr", 0.0), ("train", "backbone.heads", ["four"]), ("train", "max_steps", 1.5),
        ("train", "optimizer.weight_decay", -1.0), ("train", "preview.spacing", "even"),
        ("prepare", "data.square", 7), ("sample", "guidance_rescale", 2.0), ("run", "guidance", -1),
        ("evaluate", "metrics.fid.layer", 63), ("sweep", "launcher.parallel", 0),
    ],
)  # fmt: skip
def test_a_wrong_value_on_the_command_line(command, key, value):
    assert not failure_typed(Case(command, COMMANDS[command]), key, value)


@pytest.mark.slow
def test_any_wrong_value_on_the_command_line():
    count, failures = 0, []
    for case, key in typed():
        for _, value in settings_with_wrong_values(case, configuration(case), [key]):
            if key not in LITERAL:  # whose words are texts, whatever they look like
                count += 1
                failures.append(failure_typed(case, key, value))
    failures = [*filter(None, failures)]
    print(f"{count} values on the command line")
    assert not failures, "\n".join([f"{len(failures)} of {count}", *failures])


def failures_in(file: Path, copy: Path, values: slice) -> tuple[int, list[str]]:
    """Set keys of a file to wrong values in turn; how many, and what is wrong with answers."""
    path = copy / file.relative_to(ROOT)
    text, case = path.read_text(), case_of(file)
    config = draft(case.command, case.words).config
    origins = origins_of(case.command, case.words, config_roots(None))
    said = read_yaml_lines(path)
    package = said.package or file.parent.name
    above = "" if package in ("_global_", "") or file.parent == ROOT else f"{package}."
    changes = []
    for line in said.lines:
        key = f"{above}{'.'.join(line.key)}"
        is_in_effect = origins.file_of(key) == f" ({path}:{line.number})"
        if not line.is_group and not line.key[-1].isdigit() and is_in_effect:
            wrong = settings_with_wrong_values(case, config, [key])
            changes += [(line, key, value) for _, value in wrong]
    failures = []
    for line, key, value in changes[values]:
        path.write_text(with_value(text, line.key, value))
        message = refusal(case.command, case.words)
        if not is_told(message, key) or not message.endswith(f" ({path}:{line.number})"):
            failures.append(f"{path}:{line.number} {key}={value!r}: {message}")
    path.write_text(text)
    return len(changes[values]), failures


def with_value(text: str, key: tuple[str, ...], value: Any) -> str:
    """A YAML text in which a key has another value."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for name in key:
        node = next(value for each, value in node.value if each.value == name)
    begin, end = node.start_mark.index, node.end_mark.index
    rest = text[end:] if isinstance(node, yaml.ScalarNode) or node.flow_style else f"\n{text[end:]}"
    return f"{text[:begin]}{json.dumps(value)}{rest}"


@pytest.fixture
def copied(tmp_path, monkeypatch):
    return copy_configs(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "name", ["stage/diffusion", "backbone/unet_demo", "recipe/folder", "metrics/kid", "sweep/tpe"]
)
def test_a_wrong_value_in_a_file(name, copied):
    assert failures_in(ROOT / f"{name}.yaml", copied, slice(-2, None)) == (2, [])


@pytest.mark.slow
def test_any_wrong_value_in_any_file(copied):
    count, failures = 0, []
    for file in FILES:
        values, wrong = failures_in(file, copied, slice(None))
        count += values
        failures += wrong
    print(f"{count} values in {len(FILES)} files")
    assert not failures, "\n".join([f"{len(failures)} of {count}", *failures])
