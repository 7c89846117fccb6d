"""The losses of predictors that learned nothing, against draws and a fit by least squares."""

import pytest
import torch

from ldm.diffusion.prediction import Clean, Epsilon, Flow, Velocity
from ldm.diffusion.schedules.flow import flow
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.losses.learned_nothing import linear_predictor_loss, zero_predictor_loss

PRESERVING = scaled_linear(num_steps=1000, start=0.00085, end=0.012)
STRAIGHT = flow(num_steps=1000)
PAIRS = [
    (Epsilon(), PRESERVING), (Velocity(), PRESERVING), (Clean(), PRESERVING),
    (Flow(), STRAIGHT), (Clean(), STRAIGHT), (Epsilon(), STRAIGHT),
]  # fmt: skip


@pytest.mark.parametrize("prediction, schedule", PAIRS)
@pytest.mark.parametrize("t", [3, 400, 980])
def test_they_are_what_a_constant_and_a_multiple_of_x_reach(prediction, schedule, t):
    alpha, sigma = (level(torch.tensor([t])) for level in (schedule.alpha, schedule.sigma))
    draws = torch.randn(2, 400_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x0, eps = (draws - draws.mean(1, keepdim=True)) / draws.std(1, keepdim=True)
    x, target = alpha * x0 + sigma * eps, prediction.target(x0, eps, alpha, sigma)
    best = (x * target).mean() / x.square().mean()  # least squares
    linear = (target - best * x).square().mean()
    found = float(linear_predictor_loss(prediction, alpha, sigma))
    assert found == pytest.approx(float(linear), rel=0.01)
    zero = float(zero_predictor_loss(prediction, alpha, sigma))
    assert zero == pytest.approx(float(target.square().mean()), rel=0.01)
    assert found <= zero * (1 + 1e-9)


def test_closed_forms_of_the_papers_schedules():
    alpha, sigma = PRESERVING.alpha(PRESERVING.steps), PRESERVING.sigma(PRESERVING.steps)
    one = torch.ones_like(alpha)
    torch.testing.assert_close(zero_predictor_loss(Epsilon(), alpha, sigma), one)
    torch.testing.assert_close(linear_predictor_loss(Epsilon(), alpha, sigma), alpha.square())
    torch.testing.assert_close(zero_predictor_loss(Velocity(), alpha, sigma), one)
    # v is uncorrelated with x on such a schedule: nothing linear is to be had.
    torch.testing.assert_close(linear_predictor_loss(Velocity(), alpha, sigma), one)
    torch.testing.assert_close(linear_predictor_loss(Clean(), alpha, sigma), sigma.square())
    torch.testing.assert_close(zero_predictor_loss(Flow(), alpha, sigma), 2.0 * one)
