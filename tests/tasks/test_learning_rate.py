"""Learning rates against their closed forms."""

import math

import pytest

from ldm.tasks.learning_rate import constant, cosine


@pytest.mark.parametrize("warmup_steps", [0, 1, 10])
def test_constant(warmup_steps):
    rates = [
        constant(step, peak=2e-3, warmup_steps=warmup_steps, max_steps=50) for step in range(50)
    ]
    for step, rate in enumerate(rates):
        rising = (step + 1) / warmup_steps if step < warmup_steps else 1.0
        assert rate == pytest.approx(2e-3 * rising)
    assert rates[-1] == 2e-3


@pytest.mark.parametrize("warmup_steps", [0, 1, 10])
@pytest.mark.parametrize("final_fraction", [0.0, 0.02, 1.0])
def test_cosine(warmup_steps, final_fraction):
    def rate(step):
        return cosine(
            step,
            peak=2e-3,
            warmup_steps=warmup_steps,
            max_steps=50,
            final_fraction=final_fraction,
        )

    assert [rate(step) for step in range(warmup_steps)] == pytest.approx(
        [2e-3 * (step + 1) / warmup_steps for step in range(warmup_steps)]
    )
    assert rate(warmup_steps) == pytest.approx(2e-3)
    middle = (warmup_steps + 50) // 2
    share = (middle - warmup_steps) / (50 - warmup_steps)
    fall = math.cos(math.pi * share / 2) ** 2  # the other form of half a cosine
    assert rate(middle) == pytest.approx(2e-3 * (final_fraction + (1 - final_fraction) * fall))
    assert rate(50) == pytest.approx(2e-3 * final_fraction, abs=1e-12)
    assert rate(1000) == pytest.approx(2e-3 * final_fraction, abs=1e-12)  # no second period
    later = [rate(step) for step in range(warmup_steps, 50)]
    assert later == sorted(later, reverse=True)


def test_a_warm_up_as_long_as_the_run():
    rates = [cosine(s, peak=1.0, warmup_steps=4, max_steps=4, final_fraction=0.1) for s in range(4)]
    assert rates == [0.25, 0.5, 0.75, 1.0]
