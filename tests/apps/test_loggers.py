"""Programs that show a run, through the commands: all at once, over resumes, failing, absent."""

import csv
import importlib.util
import sys
from functools import partial

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ldm.apps.loggers import run_of
from ldm.callbacks.metrics_log import read_jsonl
from tests.apps.test_ddp import on_cpu, run
from tests.callbacks.loggers.fake_wandb import FakeWandb

ALL = "logger=[wandb,tensorboard,csv]"


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    return fake


def without_pictures(history):
    return [row for row in history if not any(name.startswith("samples") for name in row)]


def scalars(directory, name):
    found = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0})
    return {event.step: event.value for event in found.Reload().Scalars(name)}


def test_all_at_once_and_again_from_an_older_checkpoint(world, ldm, tmp_path, wandb, capsys):
    directory = tmp_path / "run"
    train = partial(ldm, *world.train("diffusion", directory, ALL))
    assert train() == 0
    said = capsys.readouterr().out
    assert said.count("nobody is logged in") == 1 and said.count("wandb sync") == 1
    first = read_jsonl(directory / "metrics.jsonl")
    assert [row["step"] for row in first] == [1, 2, 3, 4, 4] and "val/loss" in first[-1]
    sitting = wandb.runs[0]
    seen = [row | {"images_seen": 8 * row["step"]} for row in first]
    assert without_pictures(sitting.history) == seen and sitting.exit_code == 0
    (picture,) = [row["samples"] for row in sitting.history if "samples" in row]
    assert picture[1] == str(directory / "samples" / "step_000000004.png")
    assert len(picture[2].splitlines()) == 4  # captions
    told = sitting.given["config"]
    assert told["lr"] == 1e-3 and "git" in told["record"] and "materials" in told

    (directory / "manifest.json").unlink()
    (directory / "checkpoints" / "step_000000004.pt").unlink()
    saved = torch.load(directory / "checkpoints" / "step_000000002.pt", weights_only=True)
    assert saved["watchers"]["logger_wandb"] == {"id": sitting.given["id"]}
    assert train() == 0
    rows = read_jsonl(directory / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4]
    one, other = wandb.runs
    assert other.given["id"] == one.given["id"]
    assert other.history[0] == {"step": 2, "rewound_from_step": 4}
    assert [row["step"] for row in without_pictures(other.history[1:])] == [3, 4, 4]

    with open(directory / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    named = [{k: float(v) for k, v in row.items() if v} for row in table]
    assert [row | {"images_seen": 8 * row["step"]} for row in rows] == named
    for name in ("train/loss", "val/loss", "train/gradient_norm", "peak_memory_gb"):
        logged = {row["step"]: pytest.approx(row[name]) for row in rows if name in row}
        assert scalars(directory, name) == logged, name


def test_the_checkpoint_has_the_id_where_the_directory_has_lost_it(world, ldm, tmp_path, wandb):
    words = world.train("diffusion", tmp_path / "run", "logger=wandb")
    assert ldm(*words, "max_steps=2") == 0
    (tmp_path / "run" / "loggers" / "wandb.json").unlink()
    assert ldm(*words) == 0
    one, other = wandb.runs
    assert one.given["id"] == other.given["id"]
    # What it holds is not known without the file, so it is brought everything.
    assert [row["step"] for row in without_pictures(other.history)][:3] == [1, 2, 2]


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_failure_never_stops_a_run(world, ldm, tmp_path, wandb, capsys, where):
    wandb.fails = {where}
    words = world.train("text_encoder", tmp_path / "run", "logger=[csv,wandb]")
    assert ldm(*words) == 0
    assert [row["step"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")][-1] == 4
    assert capsys.readouterr().out.count(f"ConnectionError: no network for {where}") == 1
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") == 6


def test_an_absent_package_is_said_by_the_check_and_before_the_first_step(
    world, ldm, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        "ldm.callbacks.loggers.tensorboard.find_spec", lambda name: importlib.util.find_spec("no_")
    )
    words = world.train("diffusion", tmp_path / "run", "logger=[csv,tensorboard]")
    assert ldm(*words) == 2
    assert "pip install 'ldm[tensorboard]'" in capsys.readouterr().err
    ldm("check", *words)  # of this machine, not of the settings
    assert "before it can run: logger=tensorboard needs" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "word, message",
    [
        ("logger.wandb.projet=x", "Did you mean 'logger.wandb.project'"),
        ("logger.wandb.mode=onlin", "one of auto, online, offline"),
        ("logger.wandb.mode=online", "wandb login"),
        ("logger.wandb.tags=a", "a list of texts"),
        ("+logger.mine={project: x}", "it must be a group of settings with a _target_"),
        ("+logger.mine={_target_: ldm.nn.half.halve_weights, _partial_: true}", "no logger"),
    ],
)
def test_mistakes_are_told(world, ldm, tmp_path, wandb, capsys, word, message):
    words = world.train("diffusion", tmp_path / "run", "logger=wandb", word)
    assert ldm(*words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_open_one_run(world, tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "nobody"))
    directory = tmp_path / "run"
    said = run([*world.train("diffusion", directory, ALL), *on_cpu(2)])
    assert said.count("nobody is logged in") == 1
    assert len(list((directory / "wandb").glob("offline-run-*"))) == 1
    assert len(list((directory / "tensorboard").iterdir())) == 1
    rows = read_jsonl(directory / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4]
    assert list(scalars(directory, "train/loss")) == [1, 2, 3, 4]
    assert (directory / "metrics.csv").read_text().count("\n") == 6


def test_no_password_is_told(tmp_path):
    (tmp_path / "record.json").write_text(
        '{"sittings": [{"overrides": ["data.root=https://me:secret@host/x"]}]}'
    )
    settings = {"data": {"root": "https://me:secret@host/x"}, "tags": ["s3://k:secret@b"], "lr": 1}
    facts = run_of(tmp_path, settings).facts
    assert "secret" not in str(facts)
    assert facts["data"]["root"] == "https://***@host/x" and facts["lr"] == 1
