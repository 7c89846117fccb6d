"""Predictions: the target of a clean sample, read as a prediction, is that sample."""

from itertools import product

import diffusers
import pytest
import torch

from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.prediction import Clean, Epsilon, Flow, Prediction, Velocity
from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.schedules.cosine import cosine
from ldm.diffusion.schedules.flow import flow
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.types import Condition

SCHEDULE = scaled_linear(num_steps=1000, start=0.00085, end=0.012)
SCHEDULES = {
    "preserving": SCHEDULE,
    "zero_snr": cosine(num_steps=1000, zero_terminal_snr=True),
    "flow": flow(num_steps=1000),
}
PREDICTIONS: dict[str, Prediction] = {p.name: p for p in (Epsilon(), Velocity(), Clean(), Flow())}
REFUSED = {  # combinations, with the words of their remedy
    ("zero_snr", "epsilon"): "prediction=v or sample",
    ("flow", "epsilon"): "prediction=flow with schedule=flow",
    ("flow", "v"): "prediction=flow with schedule=flow",
    ("preserving", "flow"): "Set schedule=flow, or prediction=v, epsilon",
    ("zero_snr", "flow"): "Set schedule=flow, or prediction=v, epsilon",
}
ALLOWED = [pair for pair in product(SCHEDULES, PREDICTIONS) if pair not in REFUSED]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Oracle(torch.nn.Module):
    """A network that answers what it was told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = torch.zeros(())

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self.answer


@pytest.mark.parametrize("pair", ALLOWED, ids="-".join)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_round_trip(pair: tuple[str, str], dtype: torch.dtype, tolerance: float) -> None:
    schedule, prediction = SCHEDULES[pair[0]], PREDICTIONS[pair[1]]
    x0, eps = torch.randn(2, 6, 3, 4, 4, dtype=dtype)
    t = torch.tensor([0, 1, 250, 500, 998, 999])
    denoiser = Denoiser(network=Oracle(), schedule=schedule, prediction=prediction)
    x = denoiser.noised(x0, eps, t)
    denoiser.network.answer = denoiser.target(x0, eps, t)
    if pair == ("zero_snr", "v"):
        assert torch.equal(denoiser.network.answer[-1], -x0[-1])  # x is noise: v is the picture
    found = denoiser(x, t, Condition())
    assert found.dtype == dtype
    torch.testing.assert_close(found, x0, rtol=tolerance, atol=tolerance)


def test_targets_are_diffusers_targets() -> None:
    x0, eps = torch.randn(2, 4, 3, 2, 2)
    t = torch.tensor([0, 10, 600, 999])
    theirs = diffusers.DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    )
    alpha, sigma = (
        value.float().view(-1, 1, 1, 1) for value in (SCHEDULE.alpha(t), SCHEDULE.sigma(t))
    )
    velocity = theirs.get_velocity(x0, eps, t)
    torch.testing.assert_close(Velocity().target(x0, eps, alpha, sigma), velocity)
    torch.testing.assert_close(alpha * x0 + sigma * eps, theirs.add_noise(x0, eps, t))
    assert Epsilon().target(x0, eps, alpha, sigma) is eps
    assert Clean().target(x0, eps, alpha, sigma) is x0


@pytest.mark.parametrize("pair", REFUSED, ids="-".join)
def test_a_prediction_that_does_not_fit_the_schedule(pair: tuple[str, str]) -> None:
    schedule, prediction = SCHEDULES[pair[0]], PREDICTIONS[pair[1]]
    with pytest.raises(ValueError, match=REFUSED[pair]):
        Denoiser(network=Oracle(), schedule=schedule, prediction=prediction)


@pytest.mark.parametrize("pair", ALLOWED, ids="-".join)
def test_error_scale(pair: tuple[str, str]) -> None:
    """An error of the output is that many errors of x0, by finite difference."""
    schedule: NoiseSchedule = SCHEDULES[pair[0]]
    prediction = PREDICTIONS[pair[1]]
    t = torch.tensor([0, 300, 998, 999])
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x, output = torch.randn(2, 4, dtype=torch.float64)
    moved = prediction.x0(x, output + 1e-3, alpha, sigma) - prediction.x0(x, output, alpha, sigma)
    torch.testing.assert_close(1e-3 / moved.abs(), prediction.error_scale(alpha, sigma))
