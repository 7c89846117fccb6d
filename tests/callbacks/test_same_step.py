"""Processes that found different checkpoints do not train together."""

from types import SimpleNamespace

import pytest
import torch

from ldm.callbacks.same_step import SameStep


def begin(monkeypatch, own, others, world_size=2):
    def all_reduce(steps, op):
        assert op == torch.distributed.ReduceOp.MAX
        for other in others:
            steps.copy_(torch.maximum(steps, torch.tensor([other, -other])))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    module = SimpleNamespace(step=own, device="cpu")
    SameStep().on_train_start(SimpleNamespace(world_size=world_size), module)


@pytest.mark.parametrize(("own", "others"), [(300, [0]), (0, [300]), (300, [300, 200])])
def test_different_steps_are_refused_by_every_process(monkeypatch, own, others):
    with pytest.raises(ValueError, match="from .* to 300: they do not find the same checkpoints"):
        begin(monkeypatch, own, others)


def test_the_same_step_and_one_process_are_fine(monkeypatch):
    begin(monkeypatch, 300, [300, 300])
    begin(monkeypatch, 300, [0], world_size=1)  # asks nobody
