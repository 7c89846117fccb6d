"""Where networks and diffusion meet: a network, a noise schedule and a prediction."""

from torch import Tensor, nn

from ldm.diffusion.prediction import Prediction
from ldm.diffusion.schedule import NoiseSchedule
from ldm.types import Condition


class Denoiser(nn.Module):
    """x_t, t and a condition to an estimate of the clean x0.

    x (B, C, h, w) normalised latents, t (B,) in training steps 0..T-1, possibly fractional.
    ValueError where the prediction does not go with the schedule.
    """

    def __init__(
        self, *, network: nn.Module, schedule: NoiseSchedule, prediction: Prediction
    ) -> None:
        super().__init__()
        prediction.check(schedule.alpha(schedule.steps), schedule.sigma(schedule.steps))
        self.network = network
        self.schedule = schedule
        self.prediction = prediction

    def coefficients(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t (B,), shaped (B, 1, 1, 1) in the dtype of ``like``."""
        shape = (-1, *[1] * (like.dim() - 1))
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return alpha.to(like.dtype).view(shape), sigma.to(like.dtype).view(shape)

    def noised(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha_t x0 + sigma_t eps."""
        alpha, sigma = self.coefficients(t, x0)
        return alpha * x0 + sigma * eps

    def predict(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The network's raw output, in the parametrisation of ``prediction``."""
        return self.network(x, t, condition)

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What ``predict`` is trained towards."""
        alpha, sigma = self.coefficients(t, x0)
        return self.prediction.target(x0, eps, alpha, sigma)

    def x0(self, x: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """The clean sample that a raw output at x stands for."""
        alpha, sigma = self.coefficients(t, x)
        return self.prediction.x0(x, output, alpha, sigma)

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.x0(x, t, self.predict(x, t, condition))
