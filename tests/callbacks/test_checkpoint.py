"""Checkpoints: beside training, whole or absent, safe to load, forgiving of what disks do."""

import contextlib
import errno
import os
import resource
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ldm.callbacks import checkpoint_file
from ldm.callbacks.checkpoint import Checkpoint, restore
from ldm.callbacks.patience import Patience
from ldm.tasks.trained import Trained

PATIENCE = Patience(collective_timeout_seconds=5)


def make_module(names=("denoiser",), width=3):
    def trained(seed):
        torch.manual_seed(seed)
        part = Trained(
            nn.Linear(width, 2),
            make_optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
            learning_rate=lambda step: 0.1,
            max_gradient_norm=1.0,
            ema_decay=0.9,
        )
        for parameter in part.network.parameters():
            parameter.grad = torch.ones_like(parameter)
        part.step(0)
        return part

    return SimpleNamespace(step=0, trained={name: trained(i) for i, name in enumerate(names)})


def weights(module):
    return [p.detach().clone() for t in module.trained.values() for p in t.network.parameters()]


def mark(module, step):
    """Give the networks weights that tell of which step they are."""
    module.step = step
    with torch.no_grad():
        for part in module.trained.values():
            part.network.weight.fill_(float(step))


def marked(module):
    return {v for t in module.trained.values() for v in t.network.weight.flatten().tolist()}


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path, keep=2, every_steps=5, patience=PATIENCE, record={"who": ["ldm"]})


@pytest.fixture
def save(make_trainer, checkpoint):
    trainer = make_trainer()

    def at(module, step):
        mark(module, step)
        checkpoint(trainer, module)
        checkpoint.on_train_end(trainer, module)

    return at


def names(directory):
    return sorted(p.name for p in directory.iterdir())


def test_the_last_two_are_kept_and_the_newest_restored(save, tmp_path):
    module = make_module()
    for step in (5, 10, 100, 1000):
        save(module, step)
    assert names(tmp_path) == ["step_000000100.pt", "step_000001000.pt"]
    fresh = make_module()
    assert restore(tmp_path, fresh) == fresh.step == 1000
    for one, other in zip(weights(module), weights(fresh), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_is_plain_data(save, tmp_path):
    save(make_module(("autoencoder", "likelihood")), 7)
    state = torch.load(tmp_path / "step_000000007.pt", weights_only=True)
    assert state["step"] == 7 and set(state) == {"step", "trained", "watchers", "record"}
    assert state["record"] == {"who": ["ldm"]}
    assert set(state["trained"]) == {"autoencoder", "likelihood"}
    assert set(state["trained"]["autoencoder"]) == {"network", "optimizer", "ema"}


def test_what_is_saved_is_the_step_of_the_call_whatever_training_does_meanwhile(
    make_trainer, checkpoint, tmp_path, monkeypatch
):
    go_on, written, write = threading.Event(), [], checkpoint_file.write

    def slow(path, state):
        go_on.wait(10.0)
        write(path, state)
        written.append(state["step"])

    monkeypatch.setattr(checkpoint_file, "write", slow)
    module, trainer = make_module(), make_trainer()
    mark(module, 5)
    checkpoint(trainer, module)
    mark(module, 6)  # training goes on
    assert not written
    later = threading.Timer(0.05, go_on.set)
    later.start()
    mark(module, 10)
    checkpoint(trainer, module)  # waits for the one before: its memory is used again
    assert written[:1] == [5] and marked(module) == {10.0}
    checkpoint.on_exception(trainer, module, KeyboardInterrupt())
    assert written == [5, 10]
    for step in (5, 10):
        state = checkpoint_file.read(tmp_path / f"step_{step:09d}.pt")
        assert (state["trained"]["denoiser"]["network"]["weight"] == step).all()


def test_a_mistake_of_ours_in_the_thread_is_not_swallowed(
    make_trainer, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint_file, "write", lambda path, state: 1 / 0)
    checkpoint(make_trainer(), make_module())
    with pytest.raises(ZeroDivisionError):
        checkpoint.wait()


DAMAGE = {
    "truncated": lambda content: content[:-300],
    "empty": lambda content: b"",
    "noise": lambda content: b"x" * 500,
    "one bit of a weight": lambda content: content.replace(
        torch.full((6,), 10.0).numpy().tobytes(), torch.full((6,), 11.0).numpy().tobytes(), 1
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_one_is_named_and_passed_over(save, tmp_path, capsys, damage):
    module = make_module()
    save(module, 5)
    save(module, 10)
    newest = tmp_path / "step_000000010.pt"
    before = newest.read_bytes()
    newest.write_bytes(DAMAGE[damage](before))
    assert newest.read_bytes() != before
    fresh = make_module()
    assert restore(tmp_path, fresh) == 5
    assert marked(fresh) == {5.0}
    said = capsys.readouterr().out
    assert str(newest) in said and "damaged" in said


def test_a_hole_between_two_is_no_obstacle(save, tmp_path):
    module = make_module()
    for step in (5, 10):
        save(module, step)
    (tmp_path / "step_000000015.pt").write_bytes(b"")
    (tmp_path / "step_000000010.pt").unlink()
    assert restore(tmp_path, make_module()) == 5


def test_a_damaged_later_one_does_not_push_out_good_ones(save, tmp_path):
    (tmp_path / "step_000000900.pt").write_bytes(b"")
    module = make_module()
    for step in (5, 10, 15):
        save(module, step)
    assert names(tmp_path) == [f"step_{step:09d}.pt" for step in (10, 15, 900)]


def test_nothing_to_restore(tmp_path):
    module = make_module()
    assert restore(tmp_path / "none", module) == module.step == 0


def test_only_damaged_ones_are_no_new_beginning(tmp_path):
    for step in (5, 10):
        (tmp_path / f"step_{step:09d}.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read \(2 damaged\).*never"):
        restore(tmp_path, make_module())


def test_a_checkpoint_of_another_run_is_refused(save, tmp_path):
    save(make_module(("autoencoder", "discriminator")), 5)
    with pytest.raises(ValueError, match="autoencoder, discriminator, but this run trains auto"):
        restore(tmp_path, make_module(("autoencoder",)))
    with pytest.raises(ValueError, match="another architecture: size mismatch.*another run="):
        restore(tmp_path, make_module(("autoencoder", "discriminator"), width=4))


class Watchdog:
    def __init__(self, patience):
        self.patience = patience

    def state_dict(self):
        return {"patience": self.patience}

    def load_state_dict(self, state):
        self.patience = state["patience"]


def test_the_state_of_watchers_goes_with_it(make_trainer, tmp_path):
    watchers = {"dog": Watchdog(3)}
    checkpoint = Checkpoint(tmp_path, keep=1, every_steps=1, patience=PATIENCE, watchers=watchers)
    checkpoint(make_trainer(), make_module())
    checkpoint.wait()
    fresh = {"dog": Watchdog(0), "new": Watchdog(7)}
    restore(tmp_path, make_module(), fresh)
    assert [dog.patience for dog in fresh.values()] == [3, 7]


@pytest.mark.parametrize("largest", [0, 3000])
def test_a_full_disk_leaves_the_one_before_and_training_goes_on(
    save, checkpoint, tmp_path, capsys, largest
):
    module = make_module(width=1000)
    save(module, 5)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))  # as a full disk, at a byte
    try:
        save(module, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["step_000000005.pt"]
    said = capsys.readouterr().out
    assert "could not save" in said and "too large" in said
    assert "that of step 5 stays" in said and "tried again at step 15" in said
    assert checkpoint.failure is not None and checkpoint.newest() == 5
    save(module, 15)
    assert names(tmp_path) == ["step_000000005.pt", "step_000000015.pt"]
    assert checkpoint.failure is None


def test_a_read_only_disk_is_said(save, checkpoint, tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", refuse)
        save(make_module(), 5)
    assert "Read-only file system); no earlier one is there" in capsys.readouterr().out
    assert checkpoint.newest() is None


def test_a_directory_that_vanished_is_made_again(make_trainer, tmp_path, capsys):
    place = tmp_path / "run" / "checkpoints"
    checkpoint, trainer = (
        Checkpoint(place, keep=2, every_steps=5, patience=PATIENCE),
        make_trainer(),
    )
    module = make_module()
    for step in (5, 10):
        mark(module, step)
        checkpoint(trainer, module)
        checkpoint.wait()
        if step == 5:
            shutil.rmtree(tmp_path / "run")
    assert names(place) == ["step_000000010.pt"]
    shutil.rmtree(place)
    place.write_text("a file")
    checkpoint(trainer, module)
    checkpoint.wait()
    assert "could not save" in capsys.readouterr().out and checkpoint.failure


def test_a_disk_that_keeps_other_bytes_is_noticed_before_an_old_one_goes(
    save, tmp_path, capsys, monkeypatch
):
    module = make_module()
    for step in (5, 8):
        save(module, step)

    def faulty(file):
        with contextlib.suppress(OSError):  # of those opened for reading
            os.pwrite(file, b"other bytes", 1000)

    monkeypatch.setattr(os, "fsync", faulty)
    save(module, 10)
    assert names(tmp_path) == ["step_000000005.pt", "step_000000008.pt"]
    assert "what was written is not what is there" in capsys.readouterr().out


def test_whatever_is_damaged_is_passed_over(save, tmp_path):
    save(make_module(), 1)
    whole = (tmp_path / "step_000000001.pt").read_bytes()
    damaged = tmp_path / "step_000000002.pt"
    for i in range(0, len(whole), 61):
        damaged.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        with contextlib.suppress(ValueError):  # where it does not matter nothing is said
            checkpoint_file.read(damaged)


def test_all_ranks_learn_that_the_last_one_failed(tmp_path):
    patience = SimpleNamespace(gather=lambda value: ["disk full", value])
    other = Checkpoint(tmp_path, keep=2, every_steps=5, patience=patience)
    other.on_train_end(None, None)
    assert other.failure == "disk full"


def test_writing_computes_no_tensor(checkpoint, make_trainer, monkeypatch):
    """OpenMP would give the thread a team of its own, and training would slow down to half."""
    computed = []

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            computed.append(str(function))
            return function(*args, **(kwargs or {}))

    def submit(work, *arguments):
        with Seen():
            work(*arguments)
        return SimpleNamespace(result=lambda: None)

    monkeypatch.setattr(checkpoint._thread, "submit", submit)
    checkpoint(make_trainer(), make_module())
    assert checkpoint.newest() == 0
    assert computed == []
