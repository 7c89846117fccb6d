"""A step that logs nothing asks the device for nothing: the host runs ahead of it."""

from collections import Counter

import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ldm.apps import train as command

# What a GPU would have to be waited for: numbers read, and shapes that depend on numbers.
WAITING = (
    "_local_scalar_dense", "is_nonzero", "item", "equal", "nonzero", "masked_select", "bincount",
    "_unique2", "unique_dim",
)  # fmt: skip


class Waits(TorchDispatchMode):
    """Counts the operations that wait for the device."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in WAITING:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


class AfterEachStep(pl.Callback):
    """What was counted until the end of each step."""

    def __init__(self, waits):
        self.waits, self.seen = waits, []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(Counter(self.waits.found))


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("text_encoder", []),
        ("autoencoder", ["discriminator.norm=batch"]),
        ("autoencoder", ["optimizer=adam_gan", "regularizer=vq", "regularizer.restart_rate=0.5"]),
        ("diffusion", []),
        ("diffusion", ["optimizer=adamw", "precision=16-mixed", "micro_batch=4"]),
    ],
)
def test_none_in_a_step_that_logs_nothing(world, ldm, tmp_path, monkeypatch, stage, more):
    waits = Waits()
    after = AfterEachStep(waits)
    make = command.make_trainer
    monkeypatch.setattr(
        command, "make_trainer", lambda config, callbacks, loggers: make(
            config, [*callbacks, after], loggers
        )
    )  # fmt: skip
    quiet = ["log_every=100", "checkpoint_every=100", "validate_every=100", "max_steps=7"]
    with waits:
        assert ldm(*world.train(stage, tmp_path / "run", *quiet, *more)) == 0
    assert len(after.seen) in (7, 14)
    for one, next_ in zip(after.seen[2:], after.seen[3:], strict=False):
        assert next_ - one == Counter()
    assert waits.found["_local_scalar_dense"] > 0  # it does count
