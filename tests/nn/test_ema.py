"""The moving average: its closed form, its precision, its guest stay in a network."""

import pytest
import torch
from torch import nn

from ldm.nn.ema import Ema


def make(value: float, dtype: torch.dtype = torch.float32) -> nn.Linear:
    network = nn.Linear(3, 2).to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    return network


def fill(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def test_closed_form_with_warm_up() -> None:
    network = make(1.0)
    ema = Ema(network, decay=0.5)
    expected = 1.0
    for step, value in enumerate([2.0, -1.0, 4.0, 0.5, 7.0, 7.0, 1.0, 3.0, 3.0, 2.0], start=1):
        fill(network, value)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))  # 2/11, 3/12, ..., reaches 1/2 at step 8
        expected = decay * expected + (1 - decay) * value
        for shadow in ema.state_dict().values():
            torch.testing.assert_close(shadow, torch.full_like(shadow, expected))


def test_full_decay_is_reached_where_the_reference_reaches_it() -> None:
    for step, decay in ((89_989, (1 + 89_989) / (10 + 89_989)), (89_990, 0.9999)):
        network = make(0.0, torch.float32)
        ema = Ema(network, decay=0.9999)
        fill(network, 1.0)
        ema.update(step)
        assert ema.shadow["bias"][0].item() == pytest.approx(1 - decay, rel=1e-4)


def test_small_moves_survive_under_bf16_weights() -> None:
    network = make(1.0, torch.bfloat16)
    ema = Ema(network, decay=0.9999)
    fill(network, 2.0)
    for _ in range(100):
        ema.update(10**6)
    # In bf16 each move of 1e-4 would be rounded away and the average would stay at 1.
    expected = 2.0 - 0.9999**100
    for shadow in ema.shadow.values():
        assert shadow.dtype == torch.float32
        torch.testing.assert_close(shadow, torch.full_like(shadow, expected), rtol=1e-5, atol=0)
    assert network.weight.dtype == torch.bfloat16


def test_applied_lends_the_average_and_restores_the_weights() -> None:
    network = make(1.0)
    ema = Ema(network, decay=0.9)
    fill(network, 5.0)
    parameter, x = network.weight, torch.ones(1, 3)
    raw = network(x)
    with ema.applied(network):
        assert network.weight is parameter  # in place: optimizers keep their parameters
        assert torch.equal(network(x), torch.full((1, 2), 4.0))
    assert torch.equal(network(x), raw)
    with pytest.raises(RuntimeError, match="sampling"), ema.applied(network):
        raise RuntimeError("sampling failed")
    assert torch.equal(network(x), raw)
    assert torch.equal(ema.shadow["bias"], torch.ones(2))
    assert parameter.requires_grad


def test_the_shadow_is_a_copy_without_gradient() -> None:
    network = make(1.0)
    ema = Ema(network, decay=0.9)
    fill(network, 2.0)
    assert torch.equal(ema.shadow["weight"], torch.ones(2, 3))
    assert not ema.shadow["weight"].requires_grad


def test_state_comes_back_and_foreign_state_is_refused() -> None:
    ema, other = Ema(make(1.0), decay=0.9), Ema(make(3.0), decay=0.9)
    other.load_state_dict({k: v.clone() for k, v in ema.state_dict().items()})
    assert torch.equal(other.shadow["weight"], torch.ones(2, 3))
    for foreign in (nn.Linear(3, 2, bias=False), nn.Linear(1, 2)):
        with pytest.raises(ValueError, match="another architecture"):
            ema.load_state_dict(Ema(foreign, decay=0.9).state_dict())


def test_where_a_step_was_skipped_it_stays_and_else_moves_as_ever() -> None:
    network = make(1.0)
    plain, asked = Ema(network, decay=0.9), Ema(network, decay=0.9)
    with torch.no_grad():
        network.weight.normal_()
    plain.update(3)
    asked.update(3, torch.tensor(True))
    assert torch.equal(asked.shadow["weight"], plain.shadow["weight"])
    fill(network, 7.0)
    asked.update(4, torch.tensor(False))
    assert torch.equal(asked.shadow["weight"], plain.shadow["weight"])
