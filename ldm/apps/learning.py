"""How far a denoiser's held-out loss is below that of predictors that learned nothing."""

import math
from collections.abc import Mapping
from typing import NamedTuple

BINS = 8  # of timesteps, the least noise first


class Level(NamedTuple):
    """Held-out losses of one bin of timesteps, or of all."""

    loss: float
    linear: float  # of the best multiple of the noisy input: knows no picture
    zero: float  # of always answering zero

    @property
    def times_below(self) -> float:
        """How many times the loss is below the linear predictor's; under 1: above it."""
        return _times(self.linear, self.loss)

    @property
    def times_below_zero(self) -> float:
        """The same for answering zero."""
        return _times(self.zero, self.loss)


def _times(more: float, less: float) -> float:
    return more / less if less != 0.0 else float("inf")


def level(numbers: Mapping[str, float], end: str = "") -> Level | None:
    """The losses in logged numbers, of a bin with ``end`` "_bin_0"; None where any is missing."""
    found = [numbers.get(f"val/{name}{end}") for name in ("loss", "linear_loss", "zero_loss")]
    return None if None in found else Level(*map(float, found))  # type: ignore[arg-type]


def in_words(numbers: Mapping[str, float]) -> str:
    """One line about the last validation's numbers; "" without any."""
    found = level(numbers)
    if found is None:
        return ""
    loss, linear, zero = (f"{value:.4g}" for value in found)
    if not math.isfinite(found.loss):
        return "held-out loss is not finite: lower lr, or train from an earlier checkpoint"
    if not found.times_below > 1.0:
        return (
            f"held-out loss {loss}: nothing learned from pictures yet, for a linear predictor, "
            f"which knows none, pays {linear} and answering zero {zero}"
        )
    return (
        f"held-out loss {loss}: {found.times_below:.1f} times below a linear predictor, which "
        f"knows no picture ({linear}), and {found.times_below_zero:.1f} times below answering zero "
        f"({zero})"
    )
