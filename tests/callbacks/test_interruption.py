"""Signals and the limit of time: the step in progress is finished, and nobody's signal is lost."""

import os
import signal
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from ldm.callbacks.every import Every
from ldm.callbacks.interruption import AGREE_EVERY, Interruption

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)


class Task(pl.LightningModule):
    """Sends its own process a signal in some micro-batches; two of them are a step."""

    def __init__(self, signals):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.step, self.signals, self.micro = 0, signals, 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def training_step(self, batch, batch_index):
        self.micro += 1
        for number in self.signals.get(batch_index, ()):
            os.kill(os.getpid(), number)
        self.step += self.micro % 2 == 0
        return {"loss": torch.zeros(())}


@pytest.fixture
def run(make_trainer):
    def train(signals, *, early=(), seconds=None):
        task, saved = Task(signals), []
        save = Every(100, lambda _, module: saved.append(module.step), when_stopped=True)
        loader = torch.utils.data.DataLoader(range(10), batch_size=None)
        before = [signal.getsignal(n) for n in NUMBERS]
        try:
            with Interruption(["SIGTERM", "SIGUSR1"], seconds) as interruption:
                for number in early:
                    os.kill(os.getpid(), number)
                make_trainer(save, interruption).fit(task, loader)
        finally:
            assert before == [signal.getsignal(n) for n in NUMBERS]  # the handlers are given back
        return task, interruption.signal_number, saved

    return train


@pytest.mark.parametrize("number", NUMBERS[:3])
def test_a_signal_stops_after_the_whole_step_and_saves(run, number):
    task, found, saved = run({2: [number]})
    assert found == number
    assert task.micro == 4 and task.step == 2 and saved == [2]


def test_without_a_signal_nothing_stops(run):
    task, found, saved = run({})
    assert found is None and task.step == 5 and saved == [5]


def test_a_signal_before_training_is_not_lost(run):
    task, found, saved = run({}, early=[signal.SIGUSR1])
    assert found == signal.SIGUSR1 and task.micro == 0 and saved == []


def test_a_signal_in_the_last_step_finds_a_finished_run(run):
    task, found, saved = run({9: [signal.SIGTERM]})
    assert found is None and task.step == 5 and saved == [5]


@pytest.mark.parametrize("seconds", [-5.0, 0.0])
def test_the_time_that_is_up_stops_like_a_signal(run, seconds):
    task, found, _ = run({}, seconds=seconds)
    assert found == signal.SIGALRM and task.step < 5


def test_time_enough_stops_nothing_and_no_alarm_is_left(run):
    assert run({}, seconds=1000.0)[1] is None
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_second_ctrl_c_stops_at_once(run, capfd):
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run({2: [signal.SIGINT, signal.SIGINT]})
    assert "Ctrl-C again stops at once" in capfd.readouterr().err


class Trainer:
    should_stop, is_last_batch = False, False

    def __init__(self, world_size):
        self.world_size = world_size


def stopped_at(interruption, world_size, *, told_at=None):
    """The step after which a run from step 3 on stops; the signal comes during ``told_at``."""
    trainer, task = Trainer(world_size), SimpleNamespace(step=3)
    interruption.on_train_start(trainer, task)
    while not trainer.should_stop:
        task.step += 1
        if task.step == told_at:
            os.kill(os.getpid(), signal.SIGUSR1)
        interruption.on_train_batch_end(trainer, task, {}, None, 0)
    return task.step


def test_several_processes_agree_at_multiples_of_the_steps_and_at_the_start(monkeypatch):
    """The rank that was told stops no sooner than the others, and they stop with it."""
    ranks, asked = torch.distributed, []

    def all_reduce(most, op, group):
        assert op == ranks.ReduceOp.MAX and group == "group" and most.device.type == "cpu"
        asked.append(int(most))
        most.fill_(signal.SIGTERM if len(asked) == 3 else 0)  # another rank was told

    monkeypatch.setattr(ranks, "new_group", lambda **_: "group")
    monkeypatch.setattr(ranks, "all_reduce", all_reduce)
    assert stopped_at(interruption := Interruption([]), 2) == 2 * AGREE_EVERY
    assert asked == [0, 0, 0] and interruption.signal_number == signal.SIGTERM


def test_one_process_alone_asks_nobody_and_makes_no_tensor(monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(torch, "tensor", lambda *_: pytest.fail("a tensor"))
    with Interruption(["SIGUSR1"]) as interruption:
        assert stopped_at(interruption, 1, told_at=5) == 5


def test_what_is_kept_from_lightning_is_there():
    """Other names in another version would bring its handlers back, and they hang (gloo)."""
    assert callable(_SignalConnector.register_signal_handlers)
    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor)


def test_ctrl_c_after_another_signal_still_saves(run):
    task, found, saved = run({2: [signal.SIGTERM, signal.SIGINT]})
    assert (task.step, found, saved) == (2, signal.SIGINT, [2])
