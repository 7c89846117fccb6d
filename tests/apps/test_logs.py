"""`ldm logs`: what a run has logged, as a table and in other programs."""

import shutil
import sys

import pytest

from ldm.callbacks.metrics_log import read_jsonl
from tests.apps.test_loggers import scalars, without_pictures
from tests.callbacks.loggers.fake_wandb import FakeWandb


@pytest.fixture
def finished(world, tmp_path):
    """A copy of a finished run that no program has shown."""
    return shutil.copytree(world.diffusion, tmp_path / "run")


def test_show_prints_the_last_lines_and_the_last_of_everything_else(finished, ldm, capsys):
    of_sweep = shutil.copytree(finished, finished.with_name("lr=0.1,seed=1"))
    for words in (["show", finished], [f"run={finished}"], ["show", of_sweep]):
        assert ldm("logs", *words, "last=2") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:3] == ["step", "images", "loss"]
        assert [line.split()[0] for line in lines[1:3]] == ["3", "4"]
        assert any(line.startswith("val/loss ") and line.endswith("(step 4)") for line in lines)


def test_replay_brings_everything_into_a_new_run(finished, ldm, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb(logged_in=True))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    rows = read_jsonl(finished / "metrics.jsonl")
    words = ["logs", "replay", f"run={finished}", "logger=[wandb,tensorboard,csv]"]
    for _ in range(2):
        assert ldm(*words, "logger.wandb.project=mine") == 0
    assert capsys.readouterr().out.count("5 rows up to step 4 are in ") == 6
    one, other = fake.runs
    assert one.given["id"] != other.given["id"] and one.given["project"] == "mine"
    assert one.given["config"]["stage"] == "diffusion" and other.exit_code == 0
    assert [row["step"] for row in without_pictures(other.history)] == [1, 2, 3, 4, 4]
    (picture,) = [row["samples"] for row in other.history if "samples" in row]
    assert len(picture[2].splitlines()) == 4
    losses = {row["step"]: pytest.approx(row["val/loss"]) for row in rows if "val/loss" in row}
    assert scalars(finished, "val/loss") == losses
    assert (finished / "metrics.csv").read_text().count("\n") == 6


@pytest.mark.parametrize(
    "words, message",
    [
        (["replay", "run=RUN"], "where to?"),
        (["replai", "run=RUN"], "Did you mean 'replay'"),
        (["show", "RUN", "RUN"], "takes one run"),
        (["show", "RUN/samples"], "has no metrics.jsonl"),
        (["show"], "needs run=..."),
        (["show", "RUN", "las=3"], "Did you mean 'last'"),
        (["replay", "run=RUN", "logger=wandb", "logger.wandb.mode=online"], "wandb login"),
    ],
)
def test_mistakes_are_told(finished, ldm, monkeypatch, capsys, words, message):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert ldm("logs", *(word.replace("RUN", str(finished)) for word in words)) == 2
    assert message in capsys.readouterr().err


def test_a_program_that_fails_is_a_sentence(finished, ldm, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    fake.fails = {"log"}
    assert ldm("logs", "replay", f"run={finished}", "logger=wandb") == 2
    assert "wandb: ConnectionError: no network for log" in capsys.readouterr().err


def test_the_cause_is_told_also_where_a_program_does_not_open(finished, ldm, capsys):
    (finished / "tensorboard").write_text("a file")
    assert ldm("logs", "replay", f"run={finished}", "logger=tensorboard") == 2
    assert f"{finished / 'tensorboard'}" in capsys.readouterr().err


def test_nothing_is_replayed_before_all_can_be(finished, ldm, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    monkeypatch.delenv("WANDB_MODE", raising=False)
    words = ["logs", "replay", f"run={finished}", "logger=[csv,wandb]"]
    assert ldm(*words, "logger.wandb.mode=online") == 2
    assert "wandb login" in capsys.readouterr().err
    assert not (finished / "metrics.csv").exists()
