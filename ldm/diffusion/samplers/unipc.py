"""UniPC, a predictor with a corrector that costs nothing (Zhao et al. 2023)."""

import math
from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.schedule import Levels
from ldm.types import Denoise


def unipc(denoise: Denoise, x: Tensor, levels: Levels, *, noise: Callable[[int], Tensor]) -> Tensor:
    """Deterministic; one evaluation per step (Zhao et al. 2023).

    UniPC-2 with B(h) = e^h - 1 ("bh2") in data prediction: the estimate of x0 made at a predicted
    x also corrects that x, before the next step leaves from it. Predictions are of second order
    but for the first step, the one after a level without signal, and the step to the clean level.
    """
    before, x0, older = x, x, None  # the state one level back; the last two estimates of x0
    for i in range(levels.num_steps):
        found = denoise(x, levels.t[i].expand(len(x)))
        if i > 0:
            x = _corrected(before, found, x0, older, levels, i)
        older, x0 = (None if i == 0 else x0), found
        before, x = x, _predicted(x, x0, older, levels, i)
    return x


def _width(levels: Levels, i: int) -> float:
    """h of the step from level i to i + 1, in log(alpha / sigma)."""
    return levels.log_ratio(i + 1) - levels.log_ratio(i)


def _slope(x0: Tensor, older: Tensor, levels: Levels, i: int) -> Tensor:
    """By how much x0 changes during the step from level i, as the step before it had it."""
    return (x0 - older) * (_width(levels, i) / _width(levels, i - 1))


def _moved(x: Tensor, x0: Tensor, levels: Levels, i: int) -> tuple[Tensor, float]:
    """The step from level i to i + 1 with x0 held fast, and what a change of x0 adds to it."""
    gain = float(levels.alpha[i + 1]) * -math.expm1(-_width(levels, i))
    return float(levels.sigma[i + 1] / levels.sigma[i]) * x + gain * x0, gain


def _predicted(x: Tensor, x0: Tensor, older: Tensor | None, levels: Levels, i: int) -> Tensor:
    """UniP: from level i to i + 1 with the estimates of x0 at i and, where there is one, i - 1."""
    if float(levels.sigma[i + 1]) == 0.0:
        return float(levels.alpha[i + 1]) * x0
    moved, gain = _moved(x, x0, levels, i)
    return moved if older is None else moved + 0.5 * gain * _slope(x0, older, levels, i)


def _corrected(
    before: Tensor, found: Tensor, x0: Tensor, older: Tensor | None, levels: Levels, i: int
) -> Tensor:
    """UniC: the step from level i - 1 to i once more, now with the estimate found at level i."""
    moved, gain = _moved(before, x0, levels, i - 1)
    if older is None:
        return moved + 0.5 * gain * (found - x0)
    # How the slopes to the new and to the older estimate are weighed: so that the update is exact
    # for an x0 quadratic in log(alpha / sigma), known at the start and 1 and r steps from it.
    h, r = _width(levels, i - 1), -_width(levels, i - 2) / _width(levels, i - 1)
    share = -math.expm1(-h)
    first = 1.0 / share - 1.0 / h
    second = 1.0 / share - 2.0 * first / h
    old_weight = (first - second) / (1.0 - r)
    slope = _slope(x0, older, levels, i - 1)
    return moved + gain * (old_weight * slope + (first - old_weight) * (found - x0))
