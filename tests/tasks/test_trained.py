"""A network in training: clipping, rates, refusal of bad gradients, its state."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ldm.nn.muon import Muon
from ldm.tasks.trained import Trained


def make(width=3, *, optimizer=torch.optim.SGD, lr=0.5, limit=1.0, ema=None) -> Trained:
    torch.manual_seed(0)
    return Trained(
        nn.Linear(width, 2),
        make_optimizer=lambda parameters: optimizer(parameters, lr=123.0),
        learning_rate=lambda step: lr / (step + 1),
        max_gradient_norm=limit,
        ema_decay=ema,
    )


def give_gradient(trained: Trained, scale: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    for parameter in trained.network.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return torch.cat([p.grad.flatten() for p in trained.network.parameters()])


def flat(trained: Trained) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trained.network.parameters()])


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_gradients_are_clipped_over_the_whole_network(scale):
    trained = make()
    before, gradient = flat(trained), give_gradient(trained, scale)
    norm = trained.step(0)
    torch.testing.assert_close(norm, gradient.norm())  # the norm before clipping
    expected = 0.5 * gradient * min(1.0, 1.0 / float(gradient.norm()))
    torch.testing.assert_close(before - flat(trained), expected)
    assert all(parameter.grad is None for parameter in trained.network.parameters())


def test_the_rate_is_that_of_the_step_whatever_came_before():
    trained = make(limit=1e9)
    for step in (0, 1, 7, 3):
        before, gradient = flat(trained), give_gradient(trained, 1.0, seed=step)
        trained.step(step)
        torch.testing.assert_close(before - flat(trained), 0.5 / (step + 1) * gradient)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_touches_nothing(value):
    trained = make(optimizer=torch.optim.Adam, ema=0.9)
    give_gradient(trained, 1.0)
    trained.step(0)
    before = copy.deepcopy(trained.state_dict())
    give_gradient(trained, 1.0)
    trained.network.bias.grad[1] = value
    with pytest.raises(ValueError, match="gradient at step 1 is not finite.*Lower lr"):
        trained.step(1)
    after = trained.state_dict()
    for part in ("network", "ema"):
        for name in before[part]:
            assert torch.equal(before[part][name], after[part][name])
    for one, other in zip(
        *map(tree_leaves, (before["optimizer"], after["optimizer"])), strict=True
    ):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_the_average_follows_and_leaves_no_trace():
    trained = make(ema=0.5)
    before = flat(trained)
    give_gradient(trained, 1.0)
    trained.step(0)
    raw = flat(trained)
    with trained.averaged():
        inside = flat(trained)
    torch.testing.assert_close(inside, torch.lerp(before, raw, 1 - 2 / 11))  # warm-up: 2/11
    assert torch.equal(flat(trained), raw)
    without = make()
    with without.averaged():
        assert torch.equal(flat(without), before)


def test_the_state_goes_through_a_safe_file_and_back(tmp_path):
    straight = make(optimizer=torch.optim.Adam, ema=0.9)
    for step in range(3):
        give_gradient(straight, 1.0, seed=step)
        straight.step(step)
    torch.save(straight.state_dict(), tmp_path / "state.pt")
    resumed = make(optimizer=torch.optim.Adam, ema=0.9)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for trained in (straight, resumed):
        for step in range(3, 6):
            give_gradient(trained, 1.0, seed=step)
            trained.step(step)
    assert torch.equal(flat(straight), flat(resumed))
    with straight.averaged(), resumed.averaged():
        assert torch.equal(flat(straight), flat(resumed))


def test_another_architecture_is_refused_by_name():
    state = make(3).state_dict()
    with pytest.raises(ValueError, match=r"another architecture: .*weight.*or another run="):
        make(4).load_state_dict(state)
    bigger = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    other = make(3)
    other.network = bigger
    with pytest.raises(ValueError, match="another architecture: Missing key"):
        other.load_state_dict(state)


def test_the_average_follows_its_network_to_another_device():
    trained = make(ema=0.9)
    trained.network.to("meta")  # stands for a GPU
    trained.follow()
    assert {value.device.type for value in trained.ema.shadow.values()} == {"meta"}


def test_products_of_weights_are_not_rounded_by_mixed_precision():
    steps = []
    for mixed in (False, True):
        trained = make(
            width=64,
            optimizer=lambda parameters, lr: Muon(
                parameters, lr=lr, momentum=0.9, iterations=5, adam=[], betas=[0.9, 0.95],
                eps=1e-8, weight_decay=0.0,
            ),
        )  # fmt: skip
        give_gradient(trained, 1.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            trained.step(0)
        steps.append(flat(trained))
    assert torch.equal(*steps)
