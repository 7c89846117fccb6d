"""Signals: the step in progress is finished, a second Ctrl-C is obeyed at once."""

import os
import signal

import pytest
import pytorch_lightning as pl
import torch

from ldm.callbacks.every import Every
from ldm.callbacks.interruption import Interruption


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
    def train(signals):
        task, interruption, saved = Task(signals), Interruption(), []
        save = Every(100, lambda _, module: saved.append(module.step), when_stopped=True)
        loader = torch.utils.data.DataLoader(range(10), batch_size=None)
        before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        try:
            make_trainer(save, interruption).fit(task, loader)
        finally:
            after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
            assert before == after  # the handlers are given back
        return task, interruption.signal_number, saved

    return train


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_whole_step_and_saves(run, number):
    task, found, saved = run({2: [number]})
    assert found == number
    assert task.micro == 4 and task.step == 2 and saved == [2]


def test_without_a_signal_nothing_stops(run):
    task, found, saved = run({})
    assert found is None and task.step == 5 and saved == [5]


def test_the_second_ctrl_c_stops_at_once(run):
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run({2: [signal.SIGINT, signal.SIGINT]})
