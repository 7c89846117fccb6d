"""Samplers against the exact solution for Gaussian data, and against diffusers."""

import math
from collections.abc import Callable
from itertools import pairwise

import diffusers
import pytest
import torch
from torch import Tensor

from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.samplers.ddpm import ddpm
from ldm.diffusion.samplers.dpmpp_2m import dpmpp_2m
from ldm.diffusion.schedule import Levels
from ldm.diffusion.schedules.scaled_linear import scaled_linear

MEAN, STD = 0.7, 0.5  # of the data
SCHEDULE = scaled_linear(num_steps=1000, start=0.00085, end=0.012)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def no_noise(step: int) -> Tensor:
    raise AssertionError("a deterministic sampler asked for noise")


def alpha_sigma(half_log_snr: Tensor) -> tuple[Tensor, Tensor]:
    return torch.sigmoid(2 * half_log_snr).sqrt(), torch.sigmoid(-2 * half_log_snr).sqrt()


def best_guess(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] for x0 ~ N(MEAN, STD^2)."""
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (x - alpha * MEAN)


def marginal(z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Where the exact ODE carries the quantile z: x ~ N(alpha MEAN, alpha^2 STD^2 + sigma^2)."""
    return alpha * MEAN + (alpha**2 * STD**2 + sigma**2).sqrt() * z


def error(sampler: Callable[..., Tensor], num_steps: int) -> float:
    """Largest distance from the exact solution on a grid of log SNR that stops before clean."""
    half_log_snr = torch.linspace(-2.5, 2.5, num_steps + 1, dtype=torch.float64)
    levels = Levels(half_log_snr, *alpha_sigma(half_log_snr))
    z = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return best_guess(x, *alpha_sigma(t.view(-1, 1, 1, 1)))

    start = marginal(z, levels.alpha[0], levels.sigma[0])
    end = sampler(denoise, start, levels, noise=no_noise)
    return float((end - marginal(z, levels.alpha[-1], levels.sigma[-1])).abs().max())


@pytest.mark.parametrize("sampler, order", [(ddim, 1), (dpmpp_2m, 2)])
def test_order_of_convergence(sampler: Callable[..., Tensor], order: int) -> None:
    errors = [error(sampler, n) for n in (80, 160, 320)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def test_ddim_and_dpmpp_end_at_the_data() -> None:
    levels = SCHEDULE.levels(400, "karras")
    z = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1)
    start = marginal(z, levels.alpha[0], levels.sigma[0])
    for sampler in (ddim, dpmpp_2m):
        end = sampler(on_schedule, start, levels, noise=no_noise)
        torch.testing.assert_close(end, MEAN + STD * z, rtol=0, atol=0.01)


def on_schedule(x: Tensor, t: Tensor) -> Tensor:
    shape = (-1, 1, 1, 1)
    return best_guess(x, SCHEDULE.alpha(t).view(shape), SCHEDULE.sigma(t).view(shape))


@pytest.mark.parametrize(
    "sampler", [ddpm, lambda *args, **kwargs: ddim(*args, **kwargs, eta=1.0)], ids=["ddpm", "ddim"]
)
def test_stochastic_samplers_recover_mean_and_variance(sampler: Callable[..., Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 1, 100, 200)

    def noise(step: int = 0) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    levels = SCHEDULE.levels(250)
    start = marginal(noise(), levels.alpha[0], levels.sigma[0])
    end = sampler(on_schedule, start, levels, noise=noise)
    assert end.mean().item() == pytest.approx(MEAN, abs=5 * STD / 20_000**0.5)
    assert end.std().item() == pytest.approx(STD, rel=0.04)  # 250 steps: the small variance biases


def test_ddim_with_eta_one_is_ddpm() -> None:
    levels = SCHEDULE.levels(7)
    start, fresh = torch.randn(8, 2, 4, 1, 1, dtype=torch.float64)[0], torch.randn(8, 2, 4, 1, 1)
    ours = ddim(on_schedule, start, levels, noise=lambda i: fresh[i], eta=1.0)
    torch.testing.assert_close(ours, ddpm(on_schedule, start, levels, noise=lambda i: fresh[i]))


def made_up(x: Tensor, t: Tensor | float) -> Tensor:
    """Some smooth prediction of the noise, far from linear."""
    time = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *[1] * (x.dim() - 1)) / 1000
    return torch.sin(2 * x + 3 * time) + 0.3 * x


def denoise_made_up(x: Tensor, t: Tensor) -> Tensor:
    shape = (-1, 1, 1, 1)
    alpha, sigma = SCHEDULE.alpha(t).view(shape), SCHEDULE.sigma(t).view(shape)
    return (x - sigma * made_up(x, t)) / alpha


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TRAILING = {**BETAS, "timestep_spacing": "trailing"}


def diffusers_samples(scheduler: object, x: Tensor, num_steps: int, **step: object) -> Tensor:
    scheduler.set_timesteps(num_steps)  # type: ignore[attr-defined]
    for i, t in enumerate(scheduler.timesteps):  # type: ignore[attr-defined]
        extra = {name: value(i) if callable(value) else value for name, value in step.items()}
        x = scheduler.step(made_up(x, t), t, x, **extra).prev_sample  # type: ignore[attr-defined]
    return x


@pytest.fixture
def start() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("num_steps", [1, 10, 50])
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_is_diffusers_ddim(num_steps: int, eta: float, start: Tensor) -> None:
    fresh = torch.randn(num_steps, *start.shape, generator=torch.Generator().manual_seed(4))
    theirs = diffusers.DDIMScheduler(**TRAILING, clip_sample=False, set_alpha_to_one=True)
    expected = diffusers_samples(
        theirs, start, num_steps, eta=eta, variance_noise=lambda i: fresh[i].double()
    )
    found = ddim(
        denoise_made_up, start, SCHEDULE.levels(num_steps), noise=lambda i: fresh[i], eta=eta
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)  # their tables are float32


@pytest.mark.parametrize("num_steps", [1, 10, 50])
def test_ddpm_is_diffusers_ddpm(num_steps: int, start: Tensor) -> None:
    theirs = diffusers.DDPMScheduler(**TRAILING, clip_sample=False, variance_type="fixed_small")
    expected = diffusers_samples(
        theirs, start, num_steps, generator=torch.Generator().manual_seed(5)
    )
    generator = torch.Generator().manual_seed(5)
    found = ddpm(
        denoise_made_up,
        start,
        SCHEDULE.levels(num_steps),
        noise=lambda i: torch.randn(start.shape, generator=generator, dtype=start.dtype),
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("num_steps", [2, 10, 50])
def test_dpmpp_2m_is_diffusers_multistep(num_steps: int, start: Tensor) -> None:
    theirs = diffusers.DPMSolverMultistepScheduler(
        **TRAILING, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint"
    )
    expected = diffusers_samples(theirs, start, num_steps)
    found = dpmpp_2m(denoise_made_up, start, SCHEDULE.levels(num_steps), noise=no_noise)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", [ddim, ddpm, dpmpp_2m])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace", "karras"])
def test_every_grid_ends_at_a_known_answer(sampler: Callable[..., Tensor], spacing: str) -> None:
    """With a certain denoiser all samplers arrive exactly, in the dtype they were given."""
    answer = torch.randn(2, 1, 2, 2)
    for n in (1, 2, 9, 1000):
        levels = SCHEDULE.levels(n, spacing)
        start = torch.randn(2, 1, 2, 2)
        found = sampler(lambda x, t: answer, start, levels, noise=lambda i: torch.randn(2, 1, 2, 2))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, answer, rtol=1e-4, atol=1e-5)
