"""Validation: sums over counts, with the averaged weights, logged on the one counter."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ldm.callbacks.metrics_log import JsonlLogger, read_jsonl
from ldm.callbacks.validation import Validation
from ldm.tasks.trained import Trained


class Task(nn.Module):
    product = "denoiser"

    def __init__(self):
        super().__init__()
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.network.weight, 8.0)
        part = Trained(
            self.network,
            make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
            learning_rate=lambda step: 1.0,
            max_gradient_norm=1.0,
            ema_decay=0.9,
        )
        part.ema.shadow["weight"].fill_(2.0)
        self.trained = {"denoiser": part}
        self.step, self.device = 7, torch.device("cpu")
        self.modes = []

    def validate(self, batches):
        self.modes.append(self.training)
        batches = list(batches)
        total = sum(float(self.network.weight) * float(batch.sum()) for batch in batches)
        return {
            "loss": torch.tensor(total),
            "loss_count": torch.tensor(float(sum(len(batch) for batch in batches))),
            "loss_bin_0": torch.tensor(0.0),
            "loss_bin_0_count": torch.tensor(0.0),
        }


def test_means_with_the_average_and_the_network_given_back(make_trainer, tmp_path):
    logger = JsonlLogger(tmp_path / "metrics.jsonl", start_step=0)
    trainer, task = make_trainer(logger=logger), Task().train()
    validation = Validation([torch.tensor([1.0, 2.0]), torch.tensor([6.0])])
    with torch.no_grad():
        validation(trainer, task)
    assert validation.latest == {"val/loss": pytest.approx(2.0 * 9.0 / 3)}  # empty bins say nothing
    assert read_jsonl(logger.path) == [{"step": 7, "val/loss": 6.0}]
    assert task.modes == [False] and task.training
    assert float(task.network.weight.detach()) == 8.0


def test_ranks_with_different_amounts_add_up(monkeypatch):
    """Sums and counts travel between ranks; the other rank holds 9.0 over one sample."""
    trainer = SimpleNamespace(
        world_size=2,
        loggers=[],
        strategy=SimpleNamespace(batch_to_device=lambda batch, device: batch),
        precision_plugin=SimpleNamespace(
            convert_input=lambda batch: batch, forward_context=nullcontext
        ),
    )

    def all_reduce(totals, op):  # names in order: loss, loss_bin_0, loss_bin_0_count, loss_count
        totals += torch.tensor([9.0, 0.0, 0.0, 1.0], dtype=totals.dtype)

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    validation = Validation([torch.tensor([1.0, 2.0, 3.0])])
    with torch.no_grad():
        validation(trainer, Task())
    assert validation.latest["val/loss"] == pytest.approx((2.0 * 6.0 + 9.0) / 4)


def test_of_a_maximum_the_largest_of_all_ranks_is_taken_and_means_may_be_judged(monkeypatch):
    trainer = SimpleNamespace(
        world_size=2,
        loggers=[],
        strategy=SimpleNamespace(batch_to_device=lambda batch, device: batch),
        precision_plugin=SimpleNamespace(
            convert_input=lambda batch: batch, forward_context=nullcontext
        ),
    )
    task = Task()
    task.validate = lambda batches: {
        "loss": torch.tensor(6.0), "loss_count": torch.tensor(3.0), "peak_max": torch.tensor(4.0),
    }  # fmt: skip

    def all_reduce(values, op):
        other = [2.0, 1.0] if op == torch.distributed.ReduceOp.SUM else [5.0]
        combine = torch.add if op == torch.distributed.ReduceOp.SUM else torch.maximum
        values.copy_(combine(values, torch.tensor(other, dtype=values.dtype)))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    validation = Validation([], lambda means: means | {"twice": 2 * means["loss"]})
    validation(trainer, task)
    assert validation.latest == {"val/loss": 2.0, "val/peak": 5.0, "val/twice": 4.0}
