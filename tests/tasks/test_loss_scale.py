"""The scale of an fp16 loss: halves, doubles after patience, goes on where it stopped."""

import torch

from ldm.tasks import loss_scale
from ldm.tasks.loss_scale import LossScale


def after(scale: LossScale, finite: str) -> list[float]:
    """Its values after steps that were finite (+) or not (-)."""
    found = []
    for sign in finite:
        scale.update(torch.tensor(sign == "+"))
        found.append(float(scale.scale))
    return found


def test_it_falls_to_one_and_not_below() -> None:
    scale = LossScale()
    assert after(scale, "-" * 18)[-3:] == [1.0, 1.0, 1.0] and bool(scale.is_least)
    assert not bool(LossScale().is_least)


def test_it_rises_after_as_many_finite_steps_in_a_row_as_torchs(monkeypatch) -> None:
    monkeypatch.setattr(loss_scale, "_PATIENCE_STEPS", 3)
    torchs = torch.amp.GradScaler("cpu", growth_interval=3)
    torchs.scale(torch.zeros(()))
    ours, signs = LossScale(), "++-+++++-++++++"
    for sign, value in zip(signs, after(ours, signs), strict=True):
        torch._amp_update_scale_(
            torchs._scale, torchs._growth_tracker, torch.tensor(float(sign == "-")), 2.0, 0.5, 3
        )
        assert value == float(torchs._scale)


def test_its_state_goes_on_where_it_stopped(monkeypatch) -> None:
    monkeypatch.setattr(loss_scale, "_PATIENCE_STEPS", 3)
    straight, first, second = LossScale(), LossScale(), LossScale()
    expected = after(straight, "++-++" + "+-+")
    after(first, "++-++")
    second.load_state_dict(first.state_dict())
    assert after(second, "+-+") == expected[-3:]
