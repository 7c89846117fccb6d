"""A step that logs nothing asks the device for nothing: the host runs ahead of it."""

from collections import Counter

import pytest
import pytorch_lightning as pl
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


class Window(pl.Callback):
    """What was counted from the first batch of the third step on, but for the loader's own work."""

    def __init__(self, waits):
        self.waits, self.found, self.batches = waits, Counter(), 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.before = Counter(self.waits.found)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if module.step > 2:
            self.batches += 1
            self.found += self.waits.found - self.before


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("text_encoder", []),
        pytest.param("autoencoder", ["discriminator.norm=batch"], marks=pytest.mark.slow),
        ("autoencoder", ["optimizer=adam_gan", "regularizer=vq", "regularizer.restart_rate=0.5"]),
        pytest.param("diffusion", [], marks=pytest.mark.slow),
        ("diffusion", ["optimizer=adamw", "precision=16-mixed", "micro_batch=4"]),
    ],
)
def test_none_in_a_step_that_logs_nothing(world, ldm, tmp_path, monkeypatch, stage, more):
    waits = Waits()
    window = Window(waits)
    first = pl.Callback()
    first.on_train_batch_start = window.on_train_batch_start
    last = pl.Callback()
    last.on_train_batch_end = window.on_train_batch_end
    make = command.make_trainer
    monkeypatch.setattr(
        command,
        "make_trainer",
        lambda config, callbacks, loggers: make(config, [first, *callbacks, last], loggers),
    )
    quiet = ["log_every=100", "checkpoint_every=100", "validate_every=100", "max_steps=7"]
    with waits:
        assert ldm(*world.train(stage, tmp_path / "run", *quiet, *more)) == 0
    assert window.batches >= 5 and window.found == Counter()
    assert waits.found["_local_scalar_dense"] > 0  # it does count: the run's last line is read
