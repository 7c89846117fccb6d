"""One letter off in any key of any shipped configuration is refused, with the right key named."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from omegaconf import DictConfig, OmegaConf

from ldm.apps import config_files
from ldm.apps.compose import compose, draft
from ldm.apps.config_files import config_root
from ldm.apps.errors import UserError
from ldm.apps.hydra_compose import keys_in
from ldm.apps.schema.check import mistakes
from ldm.apps.yaml_lines import read_yaml_lines

ROOT = config_root()
EXPERIMENT_WITH = {  # group -> an experiment that has it
    "autoencoder": "demo_autoencoder", "regularizer": "demo_autoencoder",
    "discriminator": "demo_autoencoder", "text_encoder": "demo_text_encoder",
}  # fmt: skip
OF_TRAINING = (
    "autoencoder", "backbone", "discriminator", "learning_rate", "logger", "metrics", "optimizer",
    "prediction", "regularizer", "sampler", "schedule", "text_encoder", "trainer", "weighting",
)  # fmt: skip
COMMANDS = {
    "prepare": ("data=shapes", "out=o"), "cache": ("autoencoder_run=a", "data.root=d", "out=o"),
    "sample": ("model=m",), "evaluate": ("model=m", "metrics=fid"), "weights": (),
    "materials": ("model=m",), "plan": (), "export": ("model=m", "out=o"),
    "import": ("from=a", "run=r"), "run": ("recipe=demo",),
    "train": ("experiment=demo_diffusion", "data.root=D"),
}  # fmt: skip


class Case(NamedTuple):
    """A command whose configuration a file is part of."""

    command: str
    words: tuple[str, ...]


def case_of(file: Path) -> Case:
    """A command that reads a file of configs/."""
    group, name = file.parent.name, file.stem
    if file.parent == ROOT:
        return Case(name, COMMANDS[name])
    if group in ("data", "preparing"):
        name = "folder" if group == "preparing" else name
        path = () if name in ("shapes", "digits") else ("data.path=P",)
        return Case("prepare", (f"data={name}", "out=o", *path))
    if group == "recipe":
        return Case("run", (f"recipe={name}", *(("data.path=P",) if name == "folder" else ())))
    if group == "experiment":
        return Case("train", (f"experiment={name}", "data.root=D"))
    if group == "stage":
        return Case("train", (f"experiment=demo_{name}", "data.root=D"))
    assert group in OF_TRAINING, file
    of = f"experiment={EXPERIMENT_WITH.get(group, 'demo_diffusion')}"
    return Case("train", (of, "data.root=D", f"{group}={name}"))


FILES = sorted(ROOT.rglob("*.yaml"))


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


def kinds() -> Iterator[tuple[Case, DictConfig]]:
    """Commands and experiments, and of every group one choice of each constructor."""
    seen: set[str] = set()
    bases: dict[Case, DictConfig] = {}
    for file in sorted(FILES, key=lambda file: file.parent.name in OF_TRAINING):
        group, name = file.parent.name, file.stem
        targets = {*re.findall(r"_target_: (\S+)", file.read_text())}
        if group not in OF_TRAINING:
            if not name.startswith(("digits_", "folder_")):  # these say what the demo's say
                case = case_of(file)
                bases[case] = draft(case.command, case.words).config
                yield case, bases[case]
        elif targets - seen:
            of = EXPERIMENT_WITH.get(group, "demo_diffusion")
            case = Case("train", (f"experiment={of}", "data.root=D"))
            chosen = OmegaConf.load(file)
            config = OmegaConf.merge(bases[case], {group: None})
            config[group] = {name: chosen} if group == "metrics" else chosen
            yield case, config
        seen |= targets


def test_every_key_one_letter_off_is_no_setting():
    """Of all configurations, without Hydra and files, which the tests below have."""
    seen: set[tuple[str, ...]] = set()
    for case, config in kinds():
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


def typed() -> list[tuple[Case, str]]:
    """Every key that can be typed, once for each constructor around it."""
    found, seen = [], set()
    for case in map(case_of, FILES):
        config = draft(case.command, case.words).config
        for key in keys_in(config):
            parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
            mark = (key, str(parent.get("_target_") or config.get("stage") or case.command))
            if mark not in seen:
                seen.add(mark)
                found.append((case, key))
    return found


def check_typed(case: Case, key: str) -> None:
    others = {*keys_in(draft(case.command, case.words).config)}
    *above, last = key.split(".")
    siblings = {other.rpartition(".")[2] for other in others if other.count(".") == len(above)}
    wrong = ".".join([*above, misspelt(last, siblings)])
    with pytest.raises(UserError) as error:
        compose(case.command, [*case.words, f"{wrong}=1"])
    message = str(error.value)
    assert f"'{wrong}' is not a setting" in message and len(message.splitlines()) == 1
    assert names_it(message, key), message


@pytest.mark.parametrize(
    "command, key",
    [
        ("train", "lr"), ("train", "backbone.heads"), ("train", "optimizer._target_"),
        ("train", "experiment"), ("prepare", "data.square"), ("run", "guidance"),
        ("sample", "prompt"), ("evaluate", "metrics.fid.layer"),
    ],
)  # fmt: skip
def test_one_letter_off_on_the_command_line(command, key):
    check_typed(Case(command, COMMANDS[command]), key)


@pytest.mark.slow
def test_one_letter_off_in_any_key_on_the_command_line():
    every = typed()
    for case, key in every:
        check_typed(case, key)
    print(f"{len(every)} keys on the command line")


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of configs/ that commands take for the shipped one."""
    copy = tmp_path / "configs"
    shutil.copytree(ROOT, copy)
    monkeypatch.setattr(config_files, "config_root", lambda: copy)
    return copy


def refused(case: Case) -> str:
    with pytest.raises(UserError) as error:
        compose(case.command, case.words)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


def check_file(file: Path, copy: Path, keys: slice) -> int:
    """Misspell keys of a file, one after the other; how many there were."""
    path = copy / file.relative_to(ROOT)
    text, case = path.read_text(), case_of(file)
    lines = read_yaml_lines(file).lines
    package = read_yaml_lines(file).package or file.parent.name
    named = [line for line in lines if not line.key[-1].isdigit()]
    named = [line for line in named if not is_own_name(f"{package}.{'.'.join(line.key)}")]
    for line in named[keys]:
        taken = {other.key[-1] for other in lines if other.key[:-1] == line.key[:-1]}
        if case.command == "train" and len(line.key) == 1:
            taken |= {*map(str, draft(case.command, case.words).config)}
        rows = text.splitlines()
        row = rows[line.number - 1]
        last = line.key[-1]
        rows[line.number - 1] = re.sub(rf"\b{last}:", f"{misspelt(last, taken)}:", row, count=1)
        path.write_text("\n".join(rows) + "\n")
        try:
            message = refused(case)
        finally:
            path.write_text(text)
        assert message.endswith(f" ({path}:{line.number})"), (row, message)
        assert names_it(message, ".".join(line.key)), (row, message)
    return len(named[keys])


@pytest.mark.parametrize(
    "name",
    [
        "train", "stage/autoencoder", "experiment/imagenet_256", "text_encoder/clip_demo",
        "metrics/kid", "recipe/folder", "data/parquet", "autoencoder/vq_f4",
    ],
)  # fmt: skip
def test_one_letter_off_in_a_file(name, copied):
    assert check_file(ROOT / f"{name}.yaml", copied, slice(-1, None)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_one_letter_off_in_any_key_of_a_file(file, copied):
    print(check_file(file, copied, slice(None)), "keys in", file)


@pytest.mark.parametrize(
    "name, right, wrong, meant",
    [
        ("experiment/demo_diffusion", "/stage: diffusion", "/stage: difusion", "diffusion"),
        ("experiment/demo_diffusion", "override /stage", "override /stge", "stage"),
        ("experiment/demo_diffusion", "override /optimizer", "overide /optimizer", "override"),
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
    message = refused(Case("train", COMMANDS["train"]))
    assert names_it(message, meant), message
    assert message.endswith(f" ({path}:{before.count(chr(10)) + 1})"), message
