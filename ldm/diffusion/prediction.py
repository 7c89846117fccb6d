"""What a denoising network predicts, and how that becomes the clean sample.

With x = alpha x0 + sigma eps. Coefficients broadcast against x.
"""

from typing import Protocol

from torch import Tensor


class Prediction(Protocol):
    """Converts between a network's output and x0, and gives its training target."""

    name: str

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

    def x0(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x - sigma * output) / alpha

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps

    def error_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha / sigma


class Velocity:
    """v = alpha eps - sigma x0, for alpha^2 + sigma^2 = 1 (Salimans and Ho 2022)."""

    name = "v"

    def x0(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * x - sigma * output

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * eps - sigma * x0

    def error_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1.0 / sigma


class Clean:
    """The clean sample directly."""

    name = "sample"

    def x0(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return output

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x0

    def error_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha.new_ones(alpha.shape)
