"""Weights of the noise levels."""

import pytest
import torch

from ldm.diffusion.prediction import Clean, Epsilon, Flow, Prediction, Velocity
from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.schedules.cosine import cosine
from ldm.diffusion.schedules.flow import flow
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.losses.weighting import min_snr, uniform

SCHEDULE = scaled_linear(num_steps=1000, start=0.00085, end=0.012)
T = torch.tensor([0, 10, 200, 500, 999])
ALPHA, SIGMA = SCHEDULE.alpha(T), SCHEDULE.sigma(T)
SNR = (ALPHA / SIGMA).square()


@pytest.mark.parametrize("prediction", [Epsilon(), Velocity(), Clean()], ids=lambda p: p.name)
def test_an_error_of_x0_counts_the_same_whatever_is_predicted(prediction: Prediction) -> None:
    x0, eps, error = torch.randn(3, 5, 1, dtype=torch.float64)
    alpha, sigma = ALPHA[:, None], SIGMA[:, None]
    x = alpha * x0 + sigma * eps
    wrong = x0 + error
    wrong_eps = (x - alpha * wrong) / sigma  # what a network that believes in ``wrong`` says
    missed = prediction.target(wrong, wrong_eps, alpha, sigma) - prediction.target(
        x0, eps, alpha, sigma
    )
    weighted = min_snr(prediction, ALPHA, SIGMA, gamma=5.0) * missed[:, 0].square()
    torch.testing.assert_close(weighted, SNR.clamp(max=5.0) * error[:, 0].square())


def test_min_snr_of_epsilon_written_out() -> None:
    found = min_snr(Epsilon(), ALPHA, SIGMA, gamma=5.0)
    torch.testing.assert_close(found, torch.minimum(torch.ones_like(SNR), 5.0 / SNR))
    assert found[0] < 0.01 and found[-1] == 1.0


@pytest.mark.parametrize(
    "schedule, prediction",
    [(flow(num_steps=1000), Flow()), (cosine(num_steps=1000, zero_terminal_snr=True), Velocity())],
    ids=["flow", "zero_terminal_snr"],
)
def test_min_snr_is_finite_where_there_is_no_signal(
    schedule: NoiseSchedule, prediction: Prediction
) -> None:
    alpha, sigma = schedule.alpha(T), schedule.sigma(T)
    weights = min_snr(prediction, alpha, sigma, gamma=5.0)
    assert weights.isfinite().all()
    # There x tells nothing about x0, and an error of x0 weighs nothing.
    assert (weights[:-1] > 0).all()
    assert weights[-1] == 0.0


def test_uniform_is_one() -> None:
    assert torch.equal(uniform(Velocity(), ALPHA, SIGMA), torch.ones(5, dtype=torch.float64))
