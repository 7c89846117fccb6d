"""Checkpoints: whole or absent, safe to load, and forgiving of a damaged file."""

import resource
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ldm.callbacks.checkpoint import Checkpoint, restore
from ldm.tasks.trained import Trained


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


@pytest.fixture
def save(make_trainer, tmp_path):
    checkpoint = Checkpoint(tmp_path, keep=2)
    trainer = make_trainer()

    def at(module, step):
        module.step = step
        with torch.no_grad():
            for part in module.trained.values():
                part.network.weight.fill_(float(step))
        checkpoint(trainer, module)

    return at


def test_the_last_two_are_kept_and_the_newest_restored(save, tmp_path):
    module = make_module()
    for step in (5, 10, 100, 1000):
        save(module, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_000000100.pt", "step_000001000.pt"]
    fresh = make_module()
    assert restore(tmp_path, fresh) == fresh.step == 1000
    for one, other in zip(weights(module), weights(fresh), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_is_plain_data(save, tmp_path):
    save(make_module(("autoencoder", "likelihood")), 7)
    state = torch.load(tmp_path / "step_000000007.pt", weights_only=True)
    assert state["step"] == 7 and set(state) == {"step", "trained", "watchers"}
    assert set(state["trained"]) == {"autoencoder", "likelihood"}
    assert set(state["trained"]["autoencoder"]) == {"network", "optimizer", "ema"}


@pytest.mark.parametrize("damage", ["truncated", "empty", "noise"])
def test_a_damaged_newest_one_is_named_and_passed_over(save, tmp_path, capsys, damage):
    module = make_module()
    save(module, 5)
    save(module, 10)
    newest = tmp_path / "step_000000010.pt"
    content = newest.read_bytes()
    newest.write_bytes({"truncated": content[:-300], "empty": b"", "noise": b"x" * 500}[damage])
    fresh = make_module()
    assert restore(tmp_path, fresh) == 5
    assert bool((fresh.trained["denoiser"].network.weight == 5.0).all())
    said = capsys.readouterr().out
    assert str(newest) in said and "damaged" in said


def test_nothing_to_restore(tmp_path):
    module = make_module()
    assert restore(tmp_path / "none", module) == module.step == 0


def test_a_checkpoint_of_another_run_is_refused(save, tmp_path):
    save(make_module(("autoencoder", "discriminator")), 5)
    with pytest.raises(ValueError, match="autoencoder, discriminator, but this run trains auto"):
        restore(tmp_path, make_module(("autoencoder",)))
    with pytest.raises(ValueError, match="another architecture: size mismatch.*another run="):
        restore(tmp_path, make_module(("autoencoder", "discriminator"), width=4))


@pytest.mark.parametrize("largest", [0, 3000])
def test_a_file_that_cannot_be_written_leaves_the_one_before_and_says_so(save, tmp_path, largest):
    module = make_module(width=1000)
    save(module, 5)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))  # as a full disk, at a byte
    try:
        with pytest.raises(ValueError, match="could not save .*too large.*before it is intact"):
            save(module, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000005.pt"]
