"""Evaluation during training by the real command: its numbers, its place, its failures."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from ldm.callbacks.metrics_log import OF_THE_MACHINE, read_jsonl
from tests.apps.colour import Colours, config_dir

CHECKOUT = Path(__file__).resolve().parents[2]
NAME = "val/colour-10"


@pytest.fixture
def words(world, tmp_path):
    """Of a run that evaluates at steps 2 and 4, ten pictures in blocks of four."""

    def make(run, *more, stage="diffusion", metrics="colour"):
        pictures = "samples" if stage == "diffusion" else "reconstructions"
        return [
            *world.train(stage, tmp_path / run), "evaluate_every=2", f"metrics={metrics}",
            "evaluation.num_samples=10", "evaluation.block=4", *more,
            config_dir(tmp_path / f"configs_{stage}", pictures),
        ]  # fmt: skip

    return make


def evaluated(run: Path) -> dict[int, float]:
    return {row["step"]: row[NAME] for row in read_jsonl(run / "metrics.jsonl") if NAME in row}


@pytest.mark.parametrize("stage", ["diffusion", "autoencoder"])
def test_numbers_are_those_of_ldm_evaluate(world, ldm, tmp_path, stage):
    run, out = tmp_path / "run", tmp_path / "metrics.json"
    metrics = "metrics=[kid_own,clip_score_own,prompt_accuracy]"
    if stage == "autoencoder":
        metrics = "metrics=[psnr,ssim]"
    words = world.train(
        stage, run, "channels_last=false", "evaluate_every=4", metrics,
        "evaluation.num_samples=10", "evaluation.block=4",
    )  # fmt: skip
    assert ldm(*words) == 0
    command = [f"model={run}", f"data.root={world.shards}", metrics, "num_samples=10", "block=4"]
    assert ldm("evaluate", *command, "steps=2", f"out={out}") == 0
    during, after = (json.loads(file.read_text()) for file in (run / "evaluation.json", out))
    values = {f"{name}-10": record["value"] for name, record in after.items()}
    assert {name: record["value"] for name, record in during.items()} == values
    compared = "pictures" if stage == "autoencoder" else "reference"
    for name, record in after.items():
        if compared in record["protocol"]:
            assert record["protocol"][compared] == during[f"{name}-10"]["protocol"][compared]


def test_the_record_says_how_the_number_came_about(world, ldm, words, tmp_path):
    assert ldm(*words("run")) == 0
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert list(found) == ["colour-10"]
    record = found["colour-10"]
    assert record["step"] == 4 and record["value"] == evaluated(tmp_path / "run")[4]
    protocol = record["protocol"]
    assert protocol["n"] == protocol["n_real"] == 10 and protocol["steps"] == 2
    assert len(protocol["reference"]) == 16 and "step" not in protocol
    assert protocol["weights"] == "averaged" and protocol["precision"] is None
    facts = json.loads((tmp_path / "run" / "manifest.json").read_text())["facts"]
    assert facts[NAME] == record["value"] and "val/loss" in facts


@pytest.mark.parametrize("stage", ["diffusion", "autoencoder"])
def test_what_is_learned_is_what_is_learned_without(world, ldm, words, tmp_path, stage):
    """Losses, weights, optimizer and checkpoints, to the last bit."""
    assert ldm(*words("run", stage=stage)) == 0
    runs = (tmp_path / "run", getattr(world, stage))
    with_it, without = (
        [
            {k: v for k, v in row.items() if k not in OF_THE_MACHINE}
            for row in read_jsonl(run / "metrics.jsonl")
            if NAME not in row
        ]
        for run in runs
    )
    assert with_it == without
    assert len(evaluated(tmp_path / "run")) == 2
    states = [torch.load(run / "checkpoints/step_000000004.pt", weights_only=True) for run in runs]
    assert states[0]["watchers"].pop("evaluation") == {}
    assert all(state.pop("record") for state in states)
    flat = [torch.utils._pytree.tree_flatten(state) for state in states]
    assert flat[0][1] == flat[1][1]
    for one, other in zip(flat[0][0], flat[1][0], strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_find_the_same_bits(ldm, words, tmp_path, processes):
    """Weights that hardly move are the same everywhere; blocks are shared unequally."""
    still = (
        "lr=1e-30", "max_steps=2", "log_every=100", "validate_every=2", "validate_block=6",
        "preview.num=10",
    )  # fmt: skip
    words = partial(words, metrics="[colour,kid_own,clip_score_own]")
    assert ldm(*words("one", *still)) == 0
    ranks = ("trainer=ddp", "accelerator=cpu", f"devices={processes}", "precision=32-true")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, CHECKOUT / "tests/apps/colour.py", *words("several", *still, *ranks)],
        capture_output=True, text=True, env=environment, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [tmp_path / "one", tmp_path / "several"]
    records = [(run / "evaluation.json").read_text() for run in runs]
    assert records[0] == records[1]
    rows = [[r for r in read_jsonl(run / "metrics.jsonl") if "val/loss" in r] for run in runs]
    assert rows[0] == rows[1] and len(rows[0]) == 1
    sheets = [[file.read_bytes() for file in sorted(run.glob("samples/**/*.png"))] for run in runs]
    assert sheets[0] == sheets[1] and sheets[0]


def test_stopped_and_resumed_it_finds_the_same(ldm, words, tmp_path, monkeypatch):
    assert ldm(*words("straight")) == 0
    observe, seen = Colours.__call__, []

    def stop(observer, block):
        seen.append(block)
        if len(seen) == 2:  # in the midst of the first evaluation
            os.kill(os.getpid(), signal.SIGUSR1)
        return observe(observer, block)

    monkeypatch.setattr(Colours, "__call__", stop)
    assert ldm(*words("run")) == 75
    assert evaluated(tmp_path / "run").keys() == {2}
    assert ldm(*words("run")) == 0
    assert evaluated(tmp_path / "run") == evaluated(tmp_path / "straight")


def test_one_that_fails_is_told_and_training_goes_on(ldm, words, tmp_path, monkeypatch, capsys):
    observe = Colours.__call__

    def fail(observer, block):
        monkeypatch.setattr(Colours, "__call__", observe)  # the next time it does not
        raise ValueError("these pictures are nothing. Try another model.")

    monkeypatch.setattr(Colours, "__call__", fail)
    assert ldm(*words("run")) == 0
    said = capsys.readouterr().out
    assert (
        "step 2 could not be evaluated (rank 0: these pictures are nothing. Try another model). "
        "Training goes on." in said
    )
    assert evaluated(tmp_path / "run").keys() == {4}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["evaluate_every=2"], "needs metrics=[...]"),
        (["metrics=colour"], "give evaluate_every=N"),
        (["evaluate_every=2", "metrics=colour", "evaluation.shards=nowhere"], "nowhere"),
        (["evaluate_every=2", "metrics=colour", "evaluation.num_pictures=2"], "num_samples"),
    ],
)
@pytest.mark.parametrize("command", [["check"], []])
def test_what_lacks_is_said_before_a_step(world, ldm, tmp_path, capsys, command, more, sentence):
    words = world.train("diffusion", tmp_path / "run", *more, config_dir(tmp_path / "configs"))
    code = ldm(*command, *words)
    said = capsys.readouterr()
    if command and sentence == "nowhere":  # what a machine lacks does not make settings unsound
        assert code == 0 and "before it can run: " in said.out and sentence in said.out
    else:
        assert code == 2 and sentence in said.err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_stage_without_samples_refuses_their_metrics(world, ldm, tmp_path, capsys):
    words = world.train("autoencoder", tmp_path / "run", "evaluate_every=2", "metrics=colour")
    assert ldm(*words, config_dir(tmp_path / "configs")) == 2
    assert "draws no pictures" in capsys.readouterr().err


def test_other_shards_are_refused(world, ldm, tmp_path, capsys):
    other = tmp_path / "other"
    assert ldm("prepare", "data=shapes", "data.num_train=8", "data.num_held_out=4",
               "data.size_px=32", "data.seed=5", f"out={other}") == 0  # fmt: skip
    words = world.train("diffusion", tmp_path / "run", "evaluate_every=2", "metrics=colour")
    assert ldm(*words, f"evaluation.shards={other}", config_dir(tmp_path / "configs")) == 2
    assert "holds other pictures" in capsys.readouterr().err
