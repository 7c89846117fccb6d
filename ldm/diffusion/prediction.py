"""What a denoising network predicts, and how that becomes the clean sample.

With x = alpha x0 + sigma eps. Coefficients broadcast against x.
"""

from typing import Protocol

from torch import Tensor


class Prediction(Protocol):
    """Converts between a network's output and x0, and gives its training target."""

    name: str

    def check(self, alpha: Tensor, sigma: Tensor) -> None:
        """ValueError where this is no prediction for a schedule's levels (T,)."""
        ...

    def x0(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The clean sample that the output stands for."""
        ...

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What the output should be."""
        ...

    def error_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """How large an error of the output is for an error of 1 in x0 at the same x."""
        ...


class Epsilon:
    """The noise itself (Ho et al. 2020, eq. 14)."""

    name = "epsilon"

    def check(self, alpha: Tensor, sigma: Tensor) -> None:
        # Sampling starts at the last step, and divides what the network errs there by alpha.
        if float(alpha.min()) < 1e-3:
            raise ValueError(
                "prediction=epsilon says next to nothing about the picture at the last step of "
                "this schedule, where x is noise (almost) alone. Set prediction=v or sample with "
                "schedule=cosine or zero_terminal_snr=true, and prediction=flow with schedule=flow."
            )

    def x0(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x - sigma * output) / alpha

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps

    def error_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha / sigma


class Velocity:
    """v = alpha eps - sigma x0, for alpha^2 + sigma^2 = 1 (Salimans and Ho 2022)."""

    name = "v"

    def check(self, alpha: Tensor, sigma: Tensor) -> None:
        if not _is_one(alpha.square() + sigma.square()):
            raise ValueError(
                "prediction=v is for schedules with alpha^2 + sigma^2 = 1, and this one has other "
                "levels. Set prediction=flow with schedule=flow, or prediction=sample."
            )

    def x0(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * x - sigma * output

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * eps - sigma * x0

    def error_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1.0 / sigma


class Flow:
    """The velocity eps - x0 of a straight line, for alpha + sigma = 1 (Liu et al. 2023, eq. 1)."""

    name = "flow"

    def check(self, alpha: Tensor, sigma: Tensor) -> None:
        if not _is_one(alpha + sigma):
            raise ValueError(
                "prediction=flow is for schedules with alpha + sigma = 1, and this one has other "
                "levels. Set schedule=flow, or prediction=v, epsilon or sample with this schedule."
            )

    def x0(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x - sigma * output

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps - x0

    def error_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1.0 / sigma


class Clean:
    """The clean sample directly."""

    name = "sample"

    def check(self, alpha: Tensor, sigma: Tensor) -> None:
        pass  # always known

    def x0(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return output

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x0

    def error_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha.new_ones(alpha.shape)


def _is_one(values: Tensor) -> bool:
    return bool(((values - 1.0).abs() < 1e-9).all())
