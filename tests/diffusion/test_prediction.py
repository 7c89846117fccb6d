"""Predictions: the target of a clean sample, read as a prediction, is that sample."""

import diffusers
import pytest
import torch

from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.prediction import Clean, Epsilon, Prediction, Velocity
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.types import Condition

SCHEDULE = scaled_linear(num_steps=1000, start=0.00085, end=0.012)
PREDICTIONS = [Epsilon(), Velocity(), Clean()]


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


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda p: p.name)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_round_trip(prediction: Prediction, dtype: torch.dtype, tolerance: float) -> None:
    x0, eps = torch.randn(2, 6, 3, 4, 4, dtype=dtype)
    t = torch.tensor([0, 1, 250, 500, 998, 999])
    denoiser = Denoiser(network=Oracle(), schedule=SCHEDULE, prediction=prediction)
    x = denoiser.noised(x0, eps, t)
    denoiser.network.answer = denoiser.target(x0, eps, t)
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
