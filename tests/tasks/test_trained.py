"""A network in training: clipping, rates, refusal of bad gradients, its state."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ldm.nn.muon import Muon
from ldm.tasks.loss_scale import LossScale
from ldm.tasks.trained import Trained, step_together


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


def adam(fused):
    return lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, fused=fused)


def small_muon(parameters, lr):
    return Muon(
        parameters, lr=lr, momentum=0.9, iterations=3, adam=[], betas=[0.9, 0.95], eps=1e-8,
        weight_decay=0.1,
    )  # fmt: skip


def equal(one, other):
    leaves = zip(*map(tree_leaves, (one, other)), strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in leaves)


def moved(trained):
    """What a step may change; the rate is set before it is decided whether to step."""
    state = copy.deepcopy(trained.state_dict())
    for group in state["optimizer"]["param_groups"]:
        del group["lr"]
    return state


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("optimizer", [adam(True), adam(False), small_muon, torch.optim.SGD])
def test_a_gradient_that_is_not_finite_touches_nothing_and_is_counted(value, optimizer):
    trained = make(optimizer=optimizer, ema=0.9)
    give_gradient(trained, 1.0)
    trained.step(0)
    before = moved(trained)
    for step, age in ((1, 1.0), (2, 2.0)):
        give_gradient(trained, 1.0)
        trained.network.bias.grad[1] = value
        assert not trained.step(step).isfinite()
        assert trained.skips().tolist() == [step, step, age]
    assert equal(moved(trained), before)
    assert all(parameter.grad is None for parameter in trained.network.parameters())
    give_gradient(trained, 1.0)
    trained.step(3)
    assert trained.skips().tolist() == [2.0, 0.0, 3.0]  # none in a row; the first was at step 1
    assert not equal(trained.network.state_dict(), before["network"])
    trained.looked()
    assert trained.skips().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("optimizer", [adam(True), small_muon])
def test_steps_around_a_skipped_one_are_those_without_it(optimizer):
    with_, without = make(optimizer=optimizer, ema=0.9), make(optimizer=optimizer, ema=0.9)
    for step in range(4):
        give_gradient(with_, 1.0, seed=step)
        if step == 2:
            with_.network.weight.grad[0, 0] = float("nan")
        with_.step(step)
        if step != 2:
            give_gradient(without, 1.0, seed=step)
            without.step(step)
    assert torch.equal(flat(with_), flat(without))
    assert torch.equal(with_.ema.shadow["bias"], without.ema.shadow["bias"])


def test_networks_step_together_or_not_at_all():
    parts = {"generator": make(), "critic": make()}
    before = {name: flat(part) for name, part in parts.items()}
    for part in parts.values():
        give_gradient(part, 1.0)
    parts["critic"].network.bias.grad[0] = float("nan")
    norms = step_together(parts, 0)
    assert norms["generator"].isfinite() and norms["critic"].isnan()
    for name, part in parts.items():
        assert torch.equal(flat(part), before[name])
        assert part.skips().tolist() == [1.0, 1.0, 1.0]
    for part in parts.values():
        give_gradient(part, 1.0)
    step_together(parts, 1, ok=torch.tensor(False))  # another reason not to
    assert torch.equal(flat(parts["generator"]), before["generator"])


def test_statistics_of_a_batch_norm_survive_a_skipped_step():
    trained = Trained(
        nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)),
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        learning_rate=lambda step: 0.1,
        max_gradient_norm=1.0,
        ema_decay=None,
    )
    for step, value in enumerate((1.0, float("nan"), 2.0)):
        x = torch.full((4, 3), value)
        x[0] = 0.0
        trained.network(x).square().sum().backward()
        before = copy.deepcopy(trained._kept)
        trained.step(step)
        assert equal(before, trained._kept) == (step == 1)
        assert equal(list(trained.network.buffers()), trained._kept)
    assert int(trained.network[1].num_batches_tracked) == 2


def test_the_scale_of_an_fp16_loss_leaves_the_step_as_it_is_and_is_found():
    plain, scaled = make(optimizer=adam(True)), make(optimizer=adam(True))
    scaled.loss_scale = scale = LossScale()
    scale.scale = torch.tensor(8.0)
    for step in range(3):
        for trained, factor in ((plain, 1.0), (scaled, float(scale.scale))):
            give_gradient(trained, factor, seed=step)
            trained.step(step)
    assert torch.equal(flat(plain), flat(scaled)) and float(scale.scale) == 8.0
    for step in range(3, 8):
        give_gradient(scaled, float("inf"))
        scaled.step(step)
    assert float(scale.scale) == 1.0
    assert scaled.skips().tolist() == [2.0, 2.0, 2.0]  # those after it could not fall
    assert torch.equal(flat(plain), flat(scaled))


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
