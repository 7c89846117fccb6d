"""Learning rates as functions of the optimizer step: step 0, 1, ... -> learning rate."""

import math

from ldm.ranges import Count, Natural, Positive, Share


def constant(step: int, *, peak: Positive, warmup_steps: Natural, max_steps: Count) -> float:
    """A linear rise over ``warmup_steps`` to ``peak``, then constant."""
    return peak * min(1.0, (step + 1) / max(1, warmup_steps))


def cosine(
    step: int, *, peak: Positive, warmup_steps: Natural, max_steps: Count, final_fraction: Share
) -> float:
    """A linear rise to ``peak``, then half a cosine down to ``final_fraction`` of it at the end.

    Loshchilov and Hutter 2017, one period.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    fall = 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (final_fraction + (1.0 - final_fraction) * fall)
