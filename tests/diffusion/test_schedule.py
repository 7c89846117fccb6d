"""Noise schedules: published numbers, inverses, training times, and the grids of samplers."""

import math

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.schedules.cosine import cosine
from ldm.diffusion.schedules.flow import flow
from ldm.diffusion.schedules.linear import linear
from ldm.diffusion.schedules.scaled_linear import scaled_linear

STABLE_DIFFUSION = scaled_linear(num_steps=1000, start=0.00085, end=0.012)
DDPM = linear(num_steps=1000, start=1e-4, end=0.02)
COSINE = cosine(num_steps=1000)
FLOW = flow(num_steps=1000)
NO_SIGNAL = {  # at their last step
    "linear": linear(num_steps=1000, start=1e-4, end=0.02, zero_terminal_snr=True),
    "scaled_linear": scaled_linear(
        num_steps=1000, start=0.00085, end=0.012, zero_terminal_snr=True
    ),
    "cosine": cosine(num_steps=1000, zero_terminal_snr=True),
    "flow": FLOW,
}
PRESERVING = [STABLE_DIFFUSION, DDPM, COSINE, *list(NO_SIGNAL.values())[:3]]
SPACINGS = ["trailing", "leading", "linspace", "karras"]


@pytest.mark.parametrize("schedule", PRESERVING)
def test_variance_is_preserved_and_noise_grows(schedule: NoiseSchedule) -> None:
    t = torch.linspace(0, 999, 5001, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert alpha.dtype == sigma.dtype == torch.float64
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(t))
    assert (sigma.diff() > 0).all()
    assert schedule.alpha(t.view(3, -1)).shape == (3, 1667)


@pytest.mark.parametrize(
    "schedule, alpha_bar_last, sigma_max",
    [
        (STABLE_DIFFUSION, 0.0046601, 14.6146),
        (scaled_linear(num_steps=1000, start=0.0015, end=0.0195), 1.423e-4, 83.82),
        (scaled_linear(num_steps=1000, start=0.0015, end=0.0155), 6.69e-4, 38.66),
        (scaled_linear(num_steps=1000, start=0.0015, end=0.0205), 9.69e-5, 101.6),
        (scaled_linear(num_steps=1000, start=0.0015, end=0.015), 8.13e-4, 35.07),
        (DDPM, 4.036e-5, 157.4),
    ],
)
def test_published_ends(schedule: NoiseSchedule, alpha_bar_last: float, sigma_max: float) -> None:
    last = torch.tensor([999])
    assert schedule.alpha(last).square().item() == pytest.approx(alpha_bar_last, rel=1e-3)
    ratio = (schedule.sigma(last) / schedule.alpha(last)).item()
    assert ratio == pytest.approx(sigma_max, rel=4e-4)


def test_the_clean_end_of_stable_diffusion() -> None:
    first = torch.tensor([0])
    assert STABLE_DIFFUSION.alpha(first).square().item() == pytest.approx(0.99915, rel=1e-6)
    ratio = (STABLE_DIFFUSION.sigma(first) / STABLE_DIFFUSION.alpha(first)).item()
    assert ratio == pytest.approx(0.02917, rel=4e-4)


def test_the_noisy_end_of_stable_diffusion_still_has_signal() -> None:
    last = STABLE_DIFFUSION.steps[-1:]
    snr = (STABLE_DIFFUSION.alpha(last) / STABLE_DIFFUSION.sigma(last)).square().item()
    assert snr == pytest.approx(0.00468, rel=1e-3)


@pytest.mark.parametrize("schedule", PRESERVING)
def test_table_is_diffusers_table(schedule: NoiseSchedule) -> None:
    described = schedule.description
    options = {"beta_schedule": described["name"]}
    if "start" in described:
        options |= {"beta_start": described["start"], "beta_end": described["end"]}
    else:
        options["beta_schedule"] = "squaredcos_cap_v2"
    rescaled = "zero_terminal_snr" in described
    theirs = diffusers.DDIMScheduler(**options, rescale_betas_zero_snr=rescaled)
    alpha_bar = schedule.alpha(torch.arange(1000)).square()
    # Theirs are products of float32 numbers, and rescaled ones lose digits where they vanish.
    tolerance = {"rtol": 5e-4, "atol": 1e-7} if rescaled else {"rtol": 2e-5, "atol": 1e-11}
    torch.testing.assert_close(alpha_bar, theirs.alphas_cumprod.double(), **tolerance)


def test_the_cosine() -> None:
    """cos^2 up to a constant factor, but for the last step, whose variance is cut to 0.999."""
    alpha_bar = COSINE.alpha(torch.arange(1000)).square()
    angle = (torch.arange(1, 1001, dtype=torch.float64) / 1000 + 0.008) / 1.008 * torch.pi / 2
    start = torch.tensor(0.008 / 1.008 * torch.pi / 2, dtype=torch.float64)
    expected = angle.cos().square() / start.cos().square()
    torch.testing.assert_close(alpha_bar[:-1], expected[:-1])
    assert alpha_bar[-1].item() == pytest.approx(2.4e-9, rel=0.02)
    assert (alpha_bar[-1] / alpha_bar[-2]).item() == pytest.approx(0.001, rel=1e-9)


@pytest.mark.parametrize("schedule", NO_SIGNAL.values(), ids=NO_SIGNAL)
def test_the_last_step_has_no_signal_and_all_is_finite(schedule: NoiseSchedule) -> None:
    last = torch.tensor([999])
    assert (schedule.alpha(last).item(), schedule.sigma(last).item()) == (0.0, 1.0)
    t = torch.linspace(997, 999, 201, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert alpha.isfinite().all()
    assert (alpha.diff() < 0).all()
    assert alpha.diff().abs().max() < 1e-3  # no jump to nothing
    assert (sigma.diff() >= 0).all()
    assert schedule.t_of(2 * (alpha / sigma).log())[:-1].tolist() == pytest.approx(
        t[:-1].tolist(), abs=1e-6
    )
    for spacing in ("trailing", "leading", "linspace"):
        levels = schedule.levels(10, spacing)
        assert all(part.isfinite().all() for part in levels)
        assert math.isfinite(levels.log_ratio(0)) is (spacing == "leading")
        assert levels.log_ratio(10) == math.inf
    with pytest.raises(ValueError, match="infinite at the last step.*spacing=trailing"):
        schedule.levels(10, "karras")


def test_rescaling_keeps_the_first_step() -> None:
    """Lin et al. 2024, algorithm 1: an affine map of alpha."""
    t = torch.arange(1000)
    before, after = STABLE_DIFFUSION.alpha(t), NO_SIGNAL["scaled_linear"].alpha(t)
    assert after[0].item() == pytest.approx(before[0].item(), rel=1e-14)
    slope = after.diff() / before.diff()
    torch.testing.assert_close(slope, slope[:1].expand(999), rtol=1e-9, atol=0)


def test_flow_is_a_straight_line() -> None:
    t = torch.tensor([0.0, 249.5, 998.0, 999.0], dtype=torch.float64)
    expected = torch.tensor([0.001, 0.2505, 0.999, 1.0], dtype=torch.float64)
    torch.testing.assert_close(FLOW.sigma(t), expected)
    torch.testing.assert_close(FLOW.alpha(t), 1 - expected)


@pytest.mark.parametrize("schedule", [DDPM, NO_SIGNAL["cosine"], FLOW])
@settings(max_examples=50)
@given(t=st.floats(0, 999))
def test_t_of_is_the_inverse(schedule: NoiseSchedule, t: float) -> None:
    times = torch.tensor([t], dtype=torch.float64)
    ratio = schedule.alpha(times) / schedule.sigma(times)
    assert schedule.t_of(2 * ratio.log()).item() == pytest.approx(t, abs=1e-6)


@pytest.mark.parametrize("schedule", [DDPM, NO_SIGNAL["cosine"], FLOW])
def test_t_of_is_clamped_to_the_schedule(schedule: NoiseSchedule) -> None:
    ends = schedule.t_of(torch.tensor([100.0, -torch.inf]))
    assert ends.tolist() == [0.0, 999.0]


def test_between_steps_the_log_ratio_is_linear() -> None:
    def log_ratio(t: float) -> torch.Tensor:
        time = torch.tensor([t], dtype=torch.float64)
        return (DDPM.alpha(time) / DDPM.sigma(time)).log()

    torch.testing.assert_close(log_ratio(10.25), 0.75 * log_ratio(10) + 0.25 * log_ratio(11))


def test_a_cast_of_the_model_does_not_round_the_table() -> None:
    t = torch.arange(1000)
    for fresh, kept in (
        (linear(num_steps=1000, start=1e-4, end=0.02), DDPM),
        (flow(num_steps=1000), FLOW),
    ):
        cast = fresh.to(torch.bfloat16).half()
        assert torch.equal(cast.alpha(t), kept.alpha(t))
        assert cast.sigma(t).dtype == torch.float64
        assert cast.levels(7).t.dtype == torch.float64
        assert not cast.state_dict()  # tables, not weights


def test_training_times_do_not_depend_on_the_batch() -> None:
    index = torch.arange(640, 704)
    whole = DDPM.draw(0, 10, index, 64)
    for order in (index.split(16), index.split(1)):
        assert torch.equal(torch.cat([DDPM.draw(0, 10, part, 64) for part in order]), whole)
    assert not torch.equal(DDPM.draw(0, 11, index + 64, 64), whole)
    assert not torch.equal(DDPM.draw(1, 10, index, 64), whole)
    assert whole.dtype == torch.int64


def test_training_times_are_stratified_within_a_step() -> None:
    for step in range(20):
        index = torch.arange(step * 50, step * 50 + 50)
        times = DDPM.draw(0, step, index, 50)
        # One sample in each of 50 equal strata, wherever the shared offset falls.
        offset = times.min()
        assert ((times.sort().values - offset) // 20).tolist() == pytest.approx(range(50), abs=1)
        assert times.sort().values.diff().min() >= 19
        assert 0 <= times.min() < 20
        assert 980 <= times.max() < 1000


@pytest.mark.parametrize("position", [0, 3])
def test_training_times_are_uniform_for_each_sample(position: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    schedule = linear(num_steps=10, start=1e-4, end=0.02)
    times = [
        schedule.draw(0, step, torch.tensor([step * 4 + position]), 4).item()
        for step in range(3000)
    ]
    counts = torch.bincount(torch.tensor(times), minlength=10)
    assert len(counts) == 10
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("n", [1, 2, 7, 20, 50, 333, 501, 1000])
def test_levels_fall_to_clean(spacing: str, n: int) -> None:
    levels = STABLE_DIFFUSION.levels(n, spacing)
    assert levels.num_steps == n
    assert len(levels.t) == len(levels.alpha) == len(levels.sigma) == n + 1
    assert (levels.alpha[-1], levels.sigma[-1]) == (1.0, 0.0)
    t = levels.t[:-1]
    assert (t >= 0).all()
    assert (t <= 999).all()
    assert (t.diff() < 0).all()
    assert torch.equal(levels.alpha[:-1], STABLE_DIFFUSION.alpha(t))
    assert torch.equal(levels.sigma[:-1], STABLE_DIFFUSION.sigma(t))


def test_documented_grids() -> None:
    def grid(n: int, spacing: str) -> list[float]:
        return STABLE_DIFFUSION.levels(n, spacing).t[:-1].tolist()

    assert grid(50, "trailing")[:2] + grid(50, "trailing")[-1:] == [999, 979, 19]
    assert grid(50, "leading")[:2] + grid(50, "leading")[-1:] == [981, 961, 1]
    assert grid(30, "leading")[:1] + grid(30, "leading")[-1:] == [958, 1]
    assert grid(4, "linspace") == [999, 666, 333, 0]
    karras = grid(5, "karras")
    assert karras[0] == pytest.approx(999)
    assert karras[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n", [3, 10, 30, 50, 999, 1000])
def test_grids_are_diffusers_grids(n: int) -> None:
    for spacing in ("trailing", "leading", "linspace"):
        if (spacing, n) == ("leading", 1000):
            continue  # with SD's offset diffusers' first step is 1000, outside of its table
        theirs = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=1)
        theirs.set_timesteps(n)
        ours = STABLE_DIFFUSION.levels(n, spacing).t[:-1]
        assert ours.tolist() == theirs.timesteps.tolist(), spacing


def test_karras_spreads_the_seventh_root_of_sigma() -> None:
    options = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    theirs = diffusers.EulerDiscreteScheduler(**options, use_karras_sigmas=True)
    for n in (10, 50):
        theirs.set_timesteps(n)
        levels = STABLE_DIFFUSION.levels(n, "karras")
        sigmas = (levels.sigma / levels.alpha).float()
        torch.testing.assert_close(sigmas, theirs.sigmas, rtol=1e-5, atol=1e-7)
    levels = STABLE_DIFFUSION.levels(9, "karras")
    root = (levels.sigma / levels.alpha)[:-1] ** (1 / 7)
    torch.testing.assert_close(root.diff(), root.diff()[:1].expand(8), rtol=1e-9, atol=0)


def test_impossible_grids_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.\.1000, found 1001"):
        DDPM.levels(1001)
    with pytest.raises(ValueError, match="found 0"):
        DDPM.levels(0)
    with pytest.raises(ValueError, match="'cosine' is unknown; choose one of karras"):
        DDPM.levels(10, "cosine")
