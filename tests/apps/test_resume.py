"""Stopping and going on, bit for bit: a run that was interrupted equals one that was not."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_flatten

from ldm.callbacks.metrics_log import OF_THE_MACHINE, read_jsonl
from ldm.tasks.autoencoder import AutoencoderTask
from ldm.tasks.diffusion import DiffusionTask
from ldm.tasks.text_encoder import TextEncoderTask

TASKS = {"text_encoder": TextEncoderTask, "autoencoder": AutoencoderTask,
         "diffusion": DiffusionTask}  # fmt: skip
STOPPED = 75


@pytest.fixture
def sitting(ldm, monkeypatch):
    """Trains until the signal that comes in micro-batch ``told_at``; the indices it trained on."""

    def train(stage, words, *, told_at=None):
        seen, original = [], TASKS[stage].training_step

        def training_step(task, batch, batch_index):
            if len(seen) == told_at:
                os.kill(os.getpid(), signal.SIGUSR1)
            seen.append((batch.step, batch.index.tolist()))
            return original(task, batch, batch_index)

        with monkeypatch.context() as patch:
            patch.setattr(TASKS[stage], "training_step", training_step)
            assert ldm(*words) == (0 if told_at is None else STOPPED)
        return seen

    return train


def assert_same(run: Path, straight: Path) -> None:
    """Weights, averages, optimizers and all logged numbers, to the last bit."""
    states = []
    for x in (run, straight):
        state = torch.load(x / "checkpoints" / "step_000000004.pt", weights_only=True)
        del state["record"]  # of who made it and when
        states.append(tree_flatten(state))
    (one, one_keys), (other, other_keys) = states
    assert one_keys == other_keys
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    logged = [
        [
            {k: v for k, v in row.items() if k not in OF_THE_MACHINE}
            for row in read_jsonl(x / "metrics.jsonl")
        ]
        for x in (run, straight)
    ]
    assert logged[0] == logged[1] and len(logged[0]) == 5  # four steps and a validation


def assert_whole(sittings, global_batch: int) -> None:
    """Each step once, each of its samples once, in order, over all seams."""
    seen = [entry for sitting in sittings for entry in sitting]
    expected = [(i // global_batch, i) for i in range(4 * global_batch)]
    assert [(step, i) for step, index in seen for i in index] == expected


@pytest.mark.parametrize("stage", ["text_encoder", "autoencoder", "diffusion"])
def test_three_sittings_train_what_one_does(world, sitting, tmp_path, stage):
    """Stopped by signals in steps 1 and 3; discriminator, its ramp and averages are on."""
    words = world.train(stage, tmp_path / "run")
    sittings = [sitting(stage, words, told_at=told_at) for told_at in (0, 1, None)]
    assert [len(found) for found in sittings] == [1, 2, 1]
    assert_whole(sittings, 4 if stage == "autoencoder" else 8)
    assert_same(tmp_path / "run", getattr(world, stage))


def test_a_signal_in_the_middle_of_accumulation_waits_for_the_step(world, sitting, tmp_path):
    words = [world.train("diffusion", tmp_path / name, "micro_batch=2") for name in ("a", "b")]
    sitting("diffusion", words[0])
    sittings = [sitting("diffusion", words[1], told_at=told_at) for told_at in (5, None)]
    assert [len(found) for found in sittings] == [8, 8]  # the sixth of 4 + 4: both steps are whole
    assert_whole(sittings, 8)
    assert_same(tmp_path / "b", tmp_path / "a")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_workers_change_nothing_over_a_seam(world, sitting, tmp_path, stage):
    """What two workers have read ahead is not lost, and another number of them may go on."""
    words = world.train(stage, tmp_path / "run")
    sittings = [
        sitting(stage, [*words, "data.workers=2"], told_at=0),
        sitting(stage, words, told_at=0),
        sitting(stage, [*words, "data.workers=1"]),
    ]
    assert_whole(sittings, 4 if stage == "autoencoder" else 8)
    assert_same(tmp_path / "run", getattr(world, stage))


@pytest.mark.slow
def test_a_codebook_with_restarts_goes_on(world, sitting, tmp_path):
    codes = ("regularizer=vq", "regularizer.num_codes=64", "regularizer.restart_rate=0.5")
    words = [world.train("autoencoder", tmp_path / name, *codes) for name in ("a", "b")]
    sitting("autoencoder", words[0])
    for told_at in (0, 1, None):
        sitting("autoencoder", words[1], told_at=told_at)
    assert_same(tmp_path / "b", tmp_path / "a")


def test_a_changed_setting_is_told_applied_and_kept(world, sitting, tmp_path, capsys):
    run = tmp_path / "run"
    words = world.train("diffusion", run)
    sitting("diffusion", words, told_at=1)
    capsys.readouterr()
    sitting("diffusion", [*words, "lr=2e-3", "log_every=2"])
    said = capsys.readouterr().out
    assert f"{run} is taken up at step 2 with other settings" in said
    assert "free     log_every: 1 -> 2\n" in said and "warned   lr: 0.001 -> 0.002\n" in said
    assert "from step 2 on it learns otherwise" in said
    (entry,) = read_jsonl(run / "config_history.jsonl")
    assert entry == {
        "step": 2,
        "changes": {
            "log_every": {"class": "free", "before": 1, "now": 2},
            "lr": {"class": "warned", "before": 0.001, "now": 0.002},
        },
    }
    rates, straight = (
        [row["learning_rate"] for row in read_jsonl(x / "metrics.jsonl") if "learning_rate" in row]
        for x in (run, world.diffusion)
    )
    assert rates == [*straight[:2], 2.0 * straight[3]]  # of steps 1, 2 and 4


def test_what_a_run_is_cannot_be_changed(world, sitting, ldm, tmp_path, capsys):
    run = tmp_path / "run"
    words = world.train("diffusion", run)
    sitting("diffusion", words, told_at=0)
    before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
    for word, reason in {
        "seed=1": "every draw would be another",
        "backbone.channels=[16,48]": "its weights are of this network",
        "optimizer.betas=[0.5,0.9]": "the checkpoint holds the optimizer",
        "prediction=v": "what the network predicts",
    }.items():
        assert ldm(*words, word) == 2
        said = capsys.readouterr().err
        assert reason in said and "resume=never" in said
    assert sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) == before


def test_a_finished_run_refuses_what_would_change_nothing(world, ldm, capsys):
    assert ldm(*world.train("diffusion", world.diffusion, "drop_rate=0.2")) == 2
    said = capsys.readouterr().err
    assert "is finished" in said and "drop_rate: 0.1 -> 0.2" in said and "max_steps=" in said
    assert not (world.diffusion / "config_history.jsonl").exists()


@pytest.mark.parametrize("variable", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_a_restart_goes_on_also_with_resume_never(world, sitting, tmp_path, monkeypatch, variable):
    words = world.train("text_encoder", tmp_path / "run", "resume=never")
    sitting("text_encoder", words, told_at=1)
    monkeypatch.setenv(variable, "1")
    assert len(sitting("text_encoder", words)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert_same(tmp_path / "run", world.text_encoder)


def test_a_second_ctrl_c_ends_at_once_in_a_sentence(world, ldm, tmp_path, monkeypatch, capsys):
    """What Lightning makes an exit of code 1 is told as what it is; the checkpoint before stays."""
    original = TextEncoderTask.training_step

    def training_step(task, batch, batch_index):
        if task.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return original(task, batch, batch_index)

    run, before = tmp_path / "run", signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(TextEncoderTask, "training_step", training_step)
        assert ldm(*world.train("text_encoder", run)) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
    assert [p.name for p in (run / "checkpoints").glob("*.pt")] == ["step_000000002.pt"]
    assert ldm(*world.train("text_encoder", run)) == 0
    assert_same(run, world.text_encoder)
