"""One letter off in any key of any shipped configuration is refused, with the right key named."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from ldm.apps.hydra_compose import keys_in
from ldm.apps.schema.check import mistakes
from ldm.apps.yaml_lines import read_yaml_lines
from tests.apps.shipped_settings import (
    COMMANDS,
    FILES,
    ROOT,
    Case,
    case_of,
    copy_configs,
    keys_of,
    kinds_of_settings,
    refusal,
    typed,
)


def misspelt(name: str, taken: set[str]) -> str:
    """The name with a letter changed, so that no other key has it."""
    for i in range(len(name) - 1, -1, -1):
        for letter in "qxz":
            changed = f"{name[:i]}{letter}{name[i + 1 :]}"
            if changed not in taken and letter != name[i]:
                return changed
    raise AssertionError(name)


def is_own_name(key: str) -> bool:
    """Whether a key is a name that anybody may choose: of a logger, of a metric."""
    return key.count(".") == 1 and key.startswith(("logger.", "metrics."))


def names_it(message: str, key: str) -> bool:
    """Whether a message asks if this key was meant, whole or by its last name."""
    asked = re.search(r"Did you mean (.*)\?", message)
    forms = (f"'{key}'", f".{key}'", f"'{key.rpartition('.')[2]}'")
    return asked is not None and any(form in asked[1] for form in forms)


@contextmanager
def renamed(config: DictConfig, key: str) -> Iterator[str]:
    """Meanwhile a key has another name; that name in full."""
    above, _, last = key.rpartition(".")
    parent = OmegaConf.select(config, above) if above else config
    wrong = misspelt(last, {*map(str, parent)})
    parent[wrong] = parent._get_node(last)
    del parent[last]
    yield f"{above}.{wrong}".lstrip(".")
    parent[last] = parent._get_node(wrong)
    del parent[wrong]


def test_every_key_one_letter_off_is_no_setting():
    """Of all configurations, without Hydra and files, which the tests below have."""
    seen: set[tuple[str, ...]] = set()
    for case, config in kinds_of_settings():
        for key in [*keys_in(config)]:
            parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
            around = parent.get("_target_") or config.get("stage") or case.command
            if (mark := (key, str(around))) in seen or is_own_name(key):
                continue
            seen.add(mark)
            with renamed(config, key) as wrong:
                found = (m.text for m in mistakes(case.command, config) if m.key == wrong)
                message = next(found, "")
            assert names_it(message, key), (case, key, message)
    assert len(seen) > 350


def failure_typed(case: Case, key: str) -> str:
    """What is wrong with the answer to one letter off in a typed key; or nothing."""
    *above, last = key.split(".")
    names = (other.split(".") for other in keys_of(case))
    wrong = ".".join([*above, misspelt(last, {n[-1] for n in names if n[:-1] == above})])
    message = refusal(case.command, [*case.words, f"{wrong}=1"])
    is_told = f"'{wrong}' is not a setting" in message and len(message.splitlines()) == 1
    return "" if is_told and names_it(message, key) else f"{case} {wrong}=1: {message}"


@pytest.mark.parametrize(
    "command, key",
    [
        ("train", "lr"), ("train", "backbone.heads"), ("train", "optimizer._target_"),
        ("train", "experiment"), ("prepare", "data.square"), ("run", "guidance"),
        ("sample", "prompt"), ("evaluate", "metrics.fid.layer"),
    ],
)  # fmt: skip
def test_one_letter_off_on_the_command_line(command, key):
    assert not failure_typed(Case(command, COMMANDS[command]), key)


@pytest.mark.slow
def test_one_letter_off_in_any_key_on_the_command_line():
    every = typed()
    failures = [*filter(None, (failure_typed(case, key) for case, key in every))]
    print(f"{len(every)} keys on the command line")
    assert not failures, "\n".join([f"{len(failures)} of {len(every)}", *failures])


@pytest.fixture
def copied(tmp_path, monkeypatch):
    return copy_configs(tmp_path, monkeypatch)


def failures_in(file: Path, copy: Path, keys: slice) -> tuple[int, list[str]]:
    """Misspell keys of a file, one after the other; how many, and what is wrong with answers."""
    path = copy / file.relative_to(ROOT)
    text, case = path.read_text(), case_of(file)
    said = read_yaml_lines(file)
    package = said.package or file.parent.name
    named = [line for line in said.lines if not line.key[-1].isdigit()]
    named = [line for line in named if not is_own_name(f"{package}.{'.'.join(line.key)}")]
    failures = []
    for line in named[keys]:
        taken = {other.key[-1] for other in said.lines if other.key[:-1] == line.key[:-1]}
        if case.command == "train" and len(line.key) == 1:
            taken |= {key for key in keys_of(case) if "." not in key}
        rows = text.splitlines()
        last = line.key[-1]
        row = re.sub(rf"\b{last}:", f"{misspelt(last, taken)}:", rows[line.number - 1], count=1)
        rows[line.number - 1] = row
        path.write_text("\n".join(rows) + "\n")
        message = refusal(case.command, case.words)
        is_told = len(message.splitlines()) == 1 and names_it(message, ".".join(line.key))
        if not (is_told and message.endswith(f" ({path}:{line.number})")):
            failures.append(f"{path}:{line.number} {row.strip()}: {message}")
    path.write_text(text)
    return len(named[keys]), failures


@pytest.mark.parametrize(
    "name",
    [
        "train", "stage/autoencoder", "experiment/imagenet_256", "text_encoder/clip_demo",
        "metrics/kid", "recipe/folder", "data/parquet", "autoencoder/vq_f4",
    ],
)  # fmt: skip
def test_one_letter_off_in_a_file(name, copied):
    assert failures_in(ROOT / f"{name}.yaml", copied, slice(-1, None)) == (1, [])


@pytest.mark.slow
def test_one_letter_off_in_any_key_of_any_file(copied):
    count, failures = 0, []
    for file in FILES:
        keys, wrong = failures_in(file, copied, slice(None))
        count += keys
        failures += wrong
    print(f"{count} keys in {len(FILES)} files")
    assert not failures, "\n".join([f"{len(failures)} of {count}", *failures])


@pytest.mark.parametrize(
    "name, right, wrong, meant",
    [
        ("experiment/demo_diffusion", "/stage: diffusion", "/stage: difusion", "diffusion"),
        ("experiment/demo_diffusion", "override /stage", "override /stge", "stage"),
        ("experiment/demo_diffusion", "override /optimizer", "overide /optimizer", "override"),
        ("experiment/demo_diffusion", "override /optimizer", "optinal /optimizer", "optional"),
        ("train", "optional experiment", "optionl experiment", "optional"),
        ("experiment/demo_diffusion", "defaults:", "defalts:", "defaults"),
        ("stage/diffusion", "/sampler: dpmpp_2m", "/samplr: dpmpp_2m", "sampler"),
        ("stage/diffusion", "_self_", "_slf_", "_self_"),
        ("optimizer/muon_short", "- muon", "- moun", "muon"),
    ],
)
def test_one_letter_off_in_a_defaults_list(name, right, wrong, meant, copied):
    path = copied / f"{name}.yaml"
    text = path.read_text()
    before, found, after = text.partition(right)
    assert found
    path.write_text(before + wrong + after)
    message = refusal("train", COMMANDS["train"])
    assert names_it(message, meant), message
    assert message.endswith(f" ({path}:{before.count(chr(10)) + 1})"), message


@pytest.mark.parametrize(
    "name, command, wanted",
    [
        ("experiment/demo_diffusion", "train", "# @package _global_"),
        ("stage/diffusion", "train", "# @package _global_"),
        ("trainer/cpu", "train", "# @package _global_"),
        ("recipe/demo", "run", "# @package _global_"),
        ("metrics/fid", "evaluate", "# @package metrics.fid"),
    ],
)
def test_a_misspelt_first_line_is_refused_with_its_place(name, command, wanted, copied):
    path = copied / f"{name}.yaml"
    text = path.read_text()
    for right, wrong in (("package", "pakage"), ("_global_", "_globl_"), ("metrics.", "metric.")):
        if right in text.splitlines()[0]:
            path.write_text(text.replace(right, wrong, 1))
            message = refusal(command, COMMANDS[command])
            assert wanted in message and message.endswith(f" ({path}:1)"), message
