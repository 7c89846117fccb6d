"""Every key of every shipped configuration, with a command that reads it."""

import re
import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from omegaconf import DictConfig, OmegaConf

from ldm.apps import config_files
from ldm.apps.compose import compose, draft
from ldm.apps.config_files import config_root
from ldm.apps.errors import UserError
from ldm.apps.hydra_compose import keys_in

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
    "import": ("from=a", "run=r"), "run": ("recipe=demo",), "logs": ("run=r",), "sweep": (),
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
    if group in ("sweep", "launcher"):
        return Case("sweep", (f"{group}={name}",))
    if group == "stage":
        return Case("train", (f"experiment=demo_{name}", "data.root=D"))
    assert group in OF_TRAINING, file
    of = f"experiment={EXPERIMENT_WITH.get(group, 'demo_diffusion')}"
    return Case("train", (of, "data.root=D", f"{group}={name}"))


FILES = sorted(ROOT.rglob("*.yaml"))


def kinds_of_settings() -> Iterator[tuple[Case, DictConfig]]:
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


@cache
def keys_of(case: Case) -> list[str]:
    """The dotted keys of a shipped configuration."""
    return [*keys_in(draft(case.command, case.words).config)]


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


def refusal(command: str, words: Sequence[str]) -> str:
    """The message of a refusal; or what was accepted."""
    try:
        compose(command, words)
    except UserError as error:
        return str(error)
    return f"accepted: {' '.join(words)}"


def copy_configs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of configs/ that commands take for the shipped one."""
    copy = folder / "configs"
    shutil.copytree(ROOT, copy)
    monkeypatch.setattr(config_files, "config_root", lambda: copy)
    return copy
