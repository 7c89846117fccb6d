"""The commands in README and handbook: each can be typed, and each is run, at tiny sizes."""

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ldm.apps.compose import compose
from ldm.apps.config_files import config_root
from ldm.apps.main import COMMANDS, main
from ldm.apps.missing_weights import missing_weights
from ldm.apps.planning.request import request_of
from ldm.apps.sweeps.settings import read_settings
from ldm.apps.sweeps.space import corners, read_space
from ldm.apps.yaml_lines import read_yaml_lines
from tests.documents.commands import DOCUMENTS, Typed, commands, name_of, programs
from tests.documents.place import furnish
from tests.documents.tiny import made_by, tiny
from tests.in_process import InProcess

COMPOSED = ("prepare", "train", "cache", "sample", "evaluate", "export", "import", "run")
_FROM_FILES = ("like=", "replay=", "compare=")  # take their settings from what is not there
# What a machine without network, GPU or cluster cannot do is composed alone; each with its reason.
NOT_RUN = {
    "s3://": "is at a url",
    "weights fetch": "downloads",
    "replay=": "wants a step that was not finite: tests/apps/test_replay.py makes one",
    "launcher=slurm": "starts jobs on a cluster",
    "train experiment=sdxl_1024": "wants latents of two encoders: tests/apps/test_conditioning.py",
}
# Programs that a shell block may start; of these only ldm (and its two scripts) is run here.
PROGRAMS = {"ldm", "python", "make", "aws", "pip", "wandb", "docker", "torchrun", "sbatch", "git"}
QUICK = {"docs/road.md", "docs/recipes/editing.md"}  # the others are run by `make test-slow`


def ids(document: Path) -> str:
    return name_of(document)


def composed(typed: Typed) -> list[Any]:
    """The configurations of a command, one for each combination of a sweep; none of others."""
    words = typed.words
    if typed.command == "plan":
        return [training.config for training in request_of(words, config_dir=None).trainings]
    if typed.command not in COMPOSED or any(word.startswith(_FROM_FILES) for word in words):
        return []
    if "-m" not in words:
        return [compose(typed.command, words)]
    jobs = read_settings(typed.command, [w for w in words if w != "-m"], config_dir=None).words
    fixed, space = read_space(jobs)
    return [compose(typed.command, [*fixed, *choice]) for choice in corners(space)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_command_can_be_typed(document: Path) -> None:
    for typed in commands(document):
        assert typed.command in COMMANDS, typed
        composed(typed)
    assert programs(document) <= PROGRAMS, document


def stage_of(words: Sequence[str]) -> str:
    """The stage that `ldm train` trains: as it is typed, or as its experiment has it."""
    has = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    if "stage" in has:
        return has["stage"]
    file = config_root() / "experiment" / f"{has['experiment']}.yaml"
    (stage,) = [e.names[0] for e in read_yaml_lines(file).defaults if e.group == "/stage"]
    return stage


class Reader:
    """Types the commands of one document, one after the other, in a directory of its own."""

    def __init__(self, names: dict[str, str], settings: dict[str, list[str]]) -> None:
        self.names, self.settings = names, settings

    def place(self, name: str) -> str:
        """What a name stands for: what an earlier command made, else what was prepared."""
        if Path(name).exists() or name in self.names:
            return name if Path(name).exists() else self.names[name]
        for known in self.names:
            if name.startswith(f"{known}/"):
                return self.names[known] + name.removeprefix(known)
        return name

    def small(self, command: str, words: Sequence[str]) -> list[str]:
        stage = stage_of(words) if command == "train" else None
        return tiny(command, words, stage=stage, settings=self.settings, place=self.place)

    def type(self, command: str, words: Sequence[str]) -> int:
        """Run it; what it is to make anew must not be there from an earlier one."""
        small = self.small(command, words)
        made = made_by(command, small)
        if made is None and command == "train" and "-m" not in small:
            made = Path(compose(command, small).run)
        if made is not None and made.exists():
            assert not made.is_absolute()
            shutil.rmtree(made)
        return main([command, *small])


@pytest.fixture(scope="session")
def names(world: Any, ldm: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return furnish(tmp_path_factory.mktemp("reader"), world, ldm)


@pytest.fixture
def reader(
    names: dict[str, str], world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Reader:
    found = Reader(names, world.settings)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LDM_WEIGHTS", raising=False)
    # A recipe's steps and a sweep's jobs are made small like any command, in this process.
    monkeypatch.setattr(
        "ldm.apps.run.execute",
        lambda command, words, config_dir=None: main([command, *found.small(command, words)]),
    )
    monkeypatch.setattr(
        "ldm.apps.sweeps.command.make_launcher",
        lambda command, *settings: InProcess(lambda job: main([command, *job.arguments])),
    )
    return found


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(d, marks=[] if name_of(d) in QUICK else [pytest.mark.slow])
        for d in DOCUMENTS
        if any(True for _ in commands(d))
    ],
    ids=ids,
)
def test_every_command_runs(
    document: Path, reader: Reader, capfd: pytest.CaptureFixture[str]
) -> None:
    failed = []
    for typed in commands(document):
        if any(part in f"{typed.command} {' '.join(typed.words)}" for part in NOT_RUN):
            continue
        if typed.command == "evaluate":
            configs = composed(typed)
            if configs and all(missing_weights("evaluate", config) for config in configs):
                continue  # looks through published networks: it can be typed, and says what lacks
        capfd.readouterr()
        code = reader.type(typed.command, typed.words)
        # The doctor may find this machine ill, and the check of a big model its disk small.
        if code not in ((0, 1) if typed.command == "doctor" else (0,)):
            failed.append(f"{typed}\n  -> {code}: {capfd.readouterr().err.strip()[-600:]}")
    assert not failed, "\n".join(failed)


def test_nearly_all_commands_are_run() -> None:
    lines = [f"{c.command} {' '.join(c.words)}" for d in DOCUMENTS for c in commands(d)]
    left_out = [line for line in lines if any(part in line for part in NOT_RUN)]
    assert len(lines) > 100 and len(left_out) < 0.1 * len(lines)


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_files_that_are_pointed_to_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+?)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target and "reference/" not in target:  # those are made at each build
            assert (document.parent / target).exists(), f"{name_of(document)}: {target}"
