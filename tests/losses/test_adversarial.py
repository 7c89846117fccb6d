"""Hinge losses, the adaptive weight and the ramp against hand computations."""

import pytest
import torch

from ldm.losses.adversarial import (
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    pulls,
    ramp,
)


def test_hinge_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert float(hinge_discriminator_loss(real, fake)) == 0.5 * (0.25 + 1.0)
    assert float(hinge_generator_loss(fake)) == 1.0
    zero = torch.zeros(2)
    assert float(hinge_discriminator_loss(zero, zero)) == 1.0


def losses(weight):
    # d/dw: (2 w0, 0) = (6, 0) and (0, 3)
    return weight[0] ** 2, 3.0 * weight[1]


def test_the_adaptive_weight_by_hand_and_its_clamp():
    weight = torch.tensor([3.0, 1.0], requires_grad=True)
    reconstruction, adversarial = losses(weight)
    pulled = pulls(weight, reconstruction, adversarial)
    assert pulled.tolist() == [[6.0, 0.0], [0.0, 3.0]] and not pulled.requires_grad
    found = adaptive_weight(pulled, limit=1e4)
    assert float(found) == pytest.approx(6.0 / (3.0 + 1e-4))
    assert float(adaptive_weight(pulled, limit=0.5)) == 0.5
    (reconstruction + found * adversarial).backward()  # the graphs are still there
    torch.testing.assert_close(weight.grad, torch.tensor([6.0, 3.0 * float(found)]))


def test_a_vanishing_adversarial_gradient_stays_finite():
    weight = torch.tensor([3.0, 1.0], requires_grad=True)
    pulled = pulls(weight, weight[0] ** 2, 0.0 * weight[1])
    assert float(adaptive_weight(pulled, limit=1e9)) == pytest.approx(6e4, rel=1e-4)


def test_gradients_are_float32_or_more():
    for dtype, wide in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        weight = torch.ones(2, dtype=dtype, requires_grad=True)
        assert pulls(weight, weight.sum()).dtype == wide


def test_the_mean_over_parts_gives_the_weight_of_the_global_batch():
    torch.manual_seed(0)
    weight = torch.randn(4, requires_grad=True)
    batch = torch.randn(6, 4)

    def pulled(rows):
        return pulls(weight, (rows @ weight).square().mean(), (rows @ weight).sigmoid().mean())

    parts = torch.stack([pulled(batch[:3]), pulled(batch[3:])]).mean(0)
    found = adaptive_weight(parts, limit=1e4)
    torch.testing.assert_close(found, adaptive_weight(pulled(batch), limit=1e4))


def test_the_ramp_at_its_corners():
    assert [ramp(step, 10, 20) for step in (0, 9, 10, 20, 30, 99)] == [0, 0, 0, 0.5, 1, 1]
    assert [ramp(step, 5, 0) for step in (4, 5, 6)] == [0, 1, 1]
