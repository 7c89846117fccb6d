"""Samplers against exact solutions for Gaussian data and mixtures, and against diffusers."""

import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from ldm.diffusion.prediction import Clean, Epsilon, Flow, Prediction, Velocity
from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.samplers.ddpm import ddpm
from ldm.diffusion.samplers.dpmpp_2m import dpmpp_2m
from ldm.diffusion.samplers.dpmpp_2m_sde import dpmpp_2m_sde
from ldm.diffusion.samplers.euler import euler
from ldm.diffusion.samplers.euler_ancestral import euler_ancestral
from ldm.diffusion.samplers.heun import heun
from ldm.diffusion.samplers.pndm import pndm
from ldm.diffusion.samplers.unipc import unipc
from ldm.diffusion.schedule import Levels, NoiseSchedule
from ldm.diffusion.schedules.flow import flow
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from tests.parity import Agree

Sampler = Callable[..., Tensor]

MEAN, STD = 0.7, 0.5  # of the data
SCHEDULE = scaled_linear(num_steps=1000, start=0.00085, end=0.012)
DETERMINISTIC: dict[str, Sampler] = {
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "pndm": pndm,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
}
STOCHASTIC: dict[str, Sampler] = {
    "ddim_eta": partial(ddim, eta=0.6),
    "ddpm": ddpm,
    "euler_ancestral": euler_ancestral,
    "euler_ancestral_eta": partial(euler_ancestral, eta=0.6),
    "dpmpp_2m_sde": dpmpp_2m_sde,
}
SAMPLERS = DETERMINISTIC | STOCHASTIC

WITHOUT_SIGNAL = {  # at the first level
    "zero_terminal_snr": scaled_linear(
        num_steps=1000, start=0.00085, end=0.012, zero_terminal_snr=True
    ),
    "flow": flow(num_steps=1000),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def no_noise(step: int) -> Tensor:
    raise AssertionError("a deterministic sampler asked for noise")


def column(*values: Tensor) -> Iterator[Tensor]:
    return (value.view(-1, 1, 1, 1) for value in values)


def preserving(log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma of the variance-preserving frame."""
    return torch.sigmoid(2 * log_ratio).sqrt(), torch.sigmoid(-2 * log_ratio).sqrt()


def straight(log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma of flow matching."""
    return torch.sigmoid(log_ratio), torch.sigmoid(-log_ratio)


def exploding(log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma of the frame in which the signal is never scaled."""
    return torch.ones_like(log_ratio), torch.exp(-log_ratio)


def best_guess(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] for x0 ~ N(MEAN, STD^2)."""
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (x - alpha * MEAN)


def marginal(z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Where the exact ODE carries the quantile z: x ~ N(alpha MEAN, alpha^2 STD^2 + sigma^2)."""
    return alpha * MEAN + (alpha**2 * STD**2 + sigma**2).sqrt() * z


Frame = Callable[[Tensor], tuple[Tensor, Tensor]]


def error(sampler: Sampler, log_ratio: Tensor, frame: Frame = preserving) -> float:
    """Largest distance from the exact solution on levels that stop before clean."""
    levels = Levels(log_ratio, *frame(log_ratio))
    z = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return best_guess(x, *column(*frame(t)))

    start = marginal(z, levels.alpha[0], levels.sigma[0])
    end = sampler(denoise, start, levels, noise=no_noise)
    return float((end - marginal(z, levels.alpha[-1], levels.sigma[-1])).abs().max())


def even_log_ratio(num_steps: int) -> Tensor:
    return torch.linspace(-2.5, 2.5, num_steps + 1, dtype=torch.float64)


def even_sigma(num_steps: int) -> Tensor:
    return -torch.linspace(1.5, 0.5, num_steps + 1, dtype=torch.float64).log()


@pytest.mark.parametrize("frame", [preserving, straight])
@pytest.mark.parametrize(
    "sampler, order",
    [(ddim, 1), (euler, 1), (heun, 2), (pndm, 2), (dpmpp_2m, 2), (unipc, 3)],
)
def test_order_of_convergence(sampler: Sampler, order: int, frame: Frame) -> None:
    errors = [error(sampler, even_log_ratio(n), frame) for n in (80, 160, 320)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def variance_error(sampler: Sampler, log_ratio: Tensor) -> float:
    """Distance of the variance of a stochastic sampler from the exact one, without drawing.

    With Gaussian data everything is linear: the variance is the sum of the squared responses to
    the start and to each step's noise, each of which gets a row of the batch to itself.
    """
    levels = Levels(log_ratio, *preserving(log_ratio))
    unit = torch.eye(levels.num_steps + 2, dtype=torch.float64)[..., None, None, None]

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return best_guess(x, *column(*preserving(t)))

    spread = (levels.alpha**2 * STD**2 + levels.sigma**2).sqrt()
    end = sampler(denoise, spread[0] * unit[1], levels, noise=lambda i: unit[i + 2])
    return float(((end - end[0])[1:].square().sum() - spread[-1] ** 2).abs())


@pytest.mark.parametrize(
    "name, order",
    [("ddim_eta", 1), ("ddpm", 1), ("euler_ancestral", 1), ("dpmpp_2m_sde", 2)],
)
def test_order_of_convergence_of_the_variance(name: str, order: int) -> None:
    errors = [variance_error(SAMPLERS[name], even_log_ratio(n)) for n in (80, 160, 320)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def test_pndm_is_of_third_order_where_its_weights_are_exact() -> None:
    coarse, fine = (error(pndm, even_sigma(n)) for n in (80, 160))
    assert math.log2(coarse / fine) > 2.9


@pytest.mark.parametrize("sampler", DETERMINISTIC.values(), ids=DETERMINISTIC)
def test_deterministic_samplers_end_at_the_data(sampler: Sampler) -> None:
    levels = SCHEDULE.levels(400, "karras")
    z = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1)
    start = marginal(z, levels.alpha[0], levels.sigma[0])
    end = sampler(on_schedule, start, levels, noise=no_noise)
    torch.testing.assert_close(end, MEAN + STD * z, rtol=0, atol=0.01)


def on_schedule(x: Tensor, t: Tensor) -> Tensor:
    return best_guess(x, *column(SCHEDULE.alpha(t), SCHEDULE.sigma(t)))


def keyed_noise(shape: tuple[int, ...], seed: int = 0) -> Callable[[int], Tensor]:
    def noise(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * seed + step)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return noise


@pytest.mark.parametrize("sampler", STOCHASTIC.values(), ids=STOCHASTIC)
def test_stochastic_samplers_recover_mean_and_variance(sampler: Sampler) -> None:
    noise = keyed_noise((1, 1, 100, 200))
    levels = SCHEDULE.levels(250)
    start = marginal(noise(999), levels.alpha[0], levels.sigma[0])
    end = sampler(on_schedule, start, levels, noise=noise)
    assert end.mean().item() == pytest.approx(MEAN, abs=5 * STD / 20_000**0.5)
    assert end.std().item() == pytest.approx(STD, rel=0.04)  # 250 steps: the small variance biases


@pytest.mark.parametrize("schedule", WITHOUT_SIGNAL.values(), ids=WITHOUT_SIGNAL)
@pytest.mark.parametrize("name", SAMPLERS)
def test_from_pure_noise(name: str, schedule: NoiseSchedule) -> None:
    """Where the first level has alpha 0, and the frame may be another."""
    noise = keyed_noise((1, 1, 50, 100))
    start = noise(999)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return best_guess(x, *column(schedule.alpha(t), schedule.sigma(t)))

    end = SAMPLERS[name](denoise, start, schedule.levels(250), noise=noise)
    if name in DETERMINISTIC:
        torch.testing.assert_close(end, MEAN + STD * start, rtol=0, atol=0.05)
    assert end.mean().item() == pytest.approx(MEAN, abs=5 * STD / 5000**0.5)
    assert end.std().item() == pytest.approx(STD, rel=0.06)


PEAKS = ((0.3, -1.5, 0.2), (0.7, 1.0, 0.4))  # weight, mean and std of the parts of a mixture


def mixture_guess(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] for the mixture: the guess within each part, weighed by how likely it is."""
    logits, guesses = [], []
    for weight, mean, std in PEAKS:
        variance = alpha**2 * std**2 + sigma**2
        from_mean = x - alpha * mean
        logits.append(math.log(weight) - 0.5 * variance.log() - 0.5 * from_mean**2 / variance)
        guesses.append(mean + alpha * std**2 / variance * from_mean)
    return (torch.stack(logits).softmax(0) * torch.stack(guesses)).sum(0)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_mixture_keeps_its_mean_and_variance(sampler: Sampler) -> None:
    noise = keyed_noise((1, 1, 100, 100))
    levels = SCHEDULE.levels(100, "karras")
    which = torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(7)) < PEAKS[0][0]
    (_, left, narrow), (_, right, wide) = PEAKS
    x0 = torch.where(which, left + narrow * noise(997), right + wide * noise(998))
    start = levels.alpha[0] * x0 + levels.sigma[0] * noise(999)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return mixture_guess(x, *column(SCHEDULE.alpha(t), SCHEDULE.sigma(t)))

    end = sampler(denoise, start, levels, noise=noise)
    mean = sum(weight * mu for weight, mu, _ in PEAKS)
    variance = sum(weight * (mu**2 + std**2) for weight, mu, std in PEAKS) - mean**2
    assert end.mean().item() == pytest.approx(mean, abs=5 * (variance / 10_000) ** 0.5)
    assert end.var().item() == pytest.approx(variance, rel=0.05)
    assert (end < -0.25).double().mean().item() == pytest.approx(PEAKS[0][0], abs=0.03)


@pytest.mark.parametrize("other", [straight, exploding])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_the_frame_does_not_matter(sampler: Sampler, other: Frame) -> None:
    """The same process scaled by any function of t gives the same samples."""
    log_ratio = torch.linspace(-2.5, 2.5, 12, dtype=torch.float64)
    noise = keyed_noise((2, 1, 3, 3))

    def sample(frame: Frame) -> Tensor:
        alpha, sigma = frame(log_ratio)
        zero = torch.zeros(1, dtype=torch.float64)
        levels = Levels(
            *(torch.cat(p) for p in ((log_ratio, zero), (alpha, zero + 1), (sigma, zero)))
        )

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = column(*frame(t))
            return torch.sin(2 * x / (alpha + sigma)) * (1 + alpha / (alpha + sigma))

        return sampler(denoise, (alpha + sigma)[0] * noise(999), levels, noise=noise)

    torch.testing.assert_close(sample(other), sample(preserving), rtol=1e-10, atol=1e-10)


def test_relatives_agree() -> None:
    levels = SCHEDULE.levels(7)
    noise = keyed_noise((2, 4, 1, 1))

    def sample(sampler: Sampler) -> Tensor:
        return sampler(on_schedule, noise(999), levels, noise=noise)

    torch.testing.assert_close(sample(euler), sample(ddim))
    torch.testing.assert_close(sample(partial(euler_ancestral, eta=0.0)), sample(ddim))
    for other in (partial(ddim, eta=1.0), euler_ancestral):
        torch.testing.assert_close(sample(other), sample(ddpm))
    # The first step of a multistep method is of first order.
    levels = Levels(*(part[:2] for part in levels))
    for multistep in (dpmpp_2m, unipc):
        torch.testing.assert_close(sample(multistep), sample(ddim))
    torch.testing.assert_close(sample(dpmpp_2m_sde), sample(ddpm))


def test_evaluations_per_step() -> None:
    calls = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return on_schedule(x, t)

    for name, sampler in SAMPLERS.items():
        calls.clear()
        noise = keyed_noise((2, 1, 1, 1))
        sampler(denoise, noise(999), SCHEDULE.levels(6), noise=noise)
        assert len(calls) == {"heun": 11, "pndm": 7}.get(name, 6), name
        assert all(t.shape == (2,) for t in calls)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_few_steps(sampler: Sampler, num_steps: int) -> None:
    noise = keyed_noise((2, 1, 2, 2))
    end = sampler(on_schedule, noise(999), SCHEDULE.levels(num_steps), noise=noise)
    assert end.isfinite().all()
    if num_steps == 1:
        first = torch.tensor([999.0, 999.0])
        torch.testing.assert_close(end, on_schedule(noise(999), first))


PREDICTIONS = {"epsilon": Epsilon(), "v_prediction": Velocity(), "sample": Clean()}
# PNDM averages raw outputs of several levels, whatever they are, which is its method for noise
# only; their euler_ancestral knows no clean samples. Both are given the noise that is meant.
GIVEN_NOISE = {("pndm", "v_prediction"), ("pndm", "sample"), ("euler_ancestral", "sample")}
THEIRS: dict[str, tuple[type, dict[str, Any]]] = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "ddim_eta": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "ddpm": (diffusers.DDPMScheduler, {"clip_sample": False, "variance_type": "fixed_small"}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "heun": (diffusers.HeunDiscreteScheduler, {}),
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True, "set_alpha_to_one": True}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_sde": (
        diffusers.DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++"},
    ),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
}
TRAILING = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing",
}


def made_up(x: Tensor, t: Tensor) -> Tensor:
    """Some smooth network output, far from linear."""
    time = t.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1)) / 1000
    return torch.sin(2 * x + 3 * time) + 0.3 * x


def made_up_x0(prediction: Prediction, x: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = (c.to(x.dtype) for c in column(SCHEDULE.alpha(t), SCHEDULE.sigma(t)))
    return prediction.x0(x, made_up(x, t), alpha, sigma)


def made_up_noise(prediction: Prediction, x: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = (c.to(x.dtype) for c in column(SCHEDULE.alpha(t), SCHEDULE.sigma(t)))
    return (x - alpha * made_up_x0(prediction, x, t)) / sigma


def take_levels(scheduler: Any, levels: Levels) -> None:
    """Replace a scheduler's tables by our levels, which must be its own but for rounding."""
    scheduler.alphas_cumprod = SCHEDULE.alpha(torch.arange(1000)).square()
    scheduler.set_timesteps(levels.num_steps)
    assert scheduler.timesteps.unique().tolist() == levels.t[:-1].flip(0).tolist()
    if isinstance(scheduler.__dict__.get("sigmas"), Tensor):
        sigmas = levels.sigma / levels.alpha
        if isinstance(scheduler, diffusers.HeunDiscreteScheduler):
            sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
        assert torch.allclose(scheduler.sigmas.double(), sigmas, rtol=1e-5)
        scheduler.sigmas = sigmas


def take_straight_levels(scheduler: Any, levels: Levels) -> None:
    """The same for flow matching, where each class has timesteps and sigmas of its own."""
    scheduler.set_timesteps(levels.num_steps)
    scheduler.sigmas, scheduler.timesteps = levels.sigma.clone(), levels.t[:-1].clone()


def their_samples(
    scheduler: Any,
    network: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    levels: Levels,
    noise: Callable[[int], Tensor],
    monkeypatch: pytest.MonkeyPatch,
    take: Callable[[Any, Levels], None] = take_levels,
    **step: Any,
) -> Tensor:
    """Samples of diffusers' scheduler, its tables those of our levels, its noise ours.

    Their steps round to float32; for float64 their modules are shown a torch without it.
    """
    module = sys.modules[type(scheduler).__module__]
    if start.dtype == torch.float64:
        names = {name: getattr(torch, name) for name in dir(torch)}
        monkeypatch.setattr(module, "torch", SimpleNamespace(**names | {"float32": torch.float64}))
        torch.set_default_dtype(torch.float64)
    drawn = iter(range(levels.num_steps))
    monkeypatch.setattr(
        module, "randn_tensor", lambda *_, **__: noise(next(drawn)).to(start.dtype), raising=False
    )
    try:
        take(scheduler, levels)
        scale = getattr(scheduler, "init_noise_sigma", 1.0)
        # Where that is not 1, their x is ours divided by alpha.
        x = start if float(scale) == 1.0 else start / levels.alpha[0].to(start.dtype)
        scaled = getattr(scheduler, "scale_model_input", lambda x, t: x)
        for t in scheduler.timesteps:
            output = network(scaled(x, t), t).to(start.dtype)
            x = scheduler.step(output, t, x, **step).prev_sample
    finally:
        torch.set_default_dtype(torch.float32)
    return x


PRECISIONS = ((torch.float64, 1e-9), (torch.float32, 1e-4))


@pytest.mark.parametrize("num_steps", [10, 20, 50])
@pytest.mark.parametrize("name", THEIRS)
def test_samplers_are_diffusers_samplers(
    name: str, num_steps: int, monkeypatch: pytest.MonkeyPatch, agree: Agree
) -> None:
    kind, options = THEIRS[name]
    levels, noise = SCHEDULE.levels(num_steps), keyed_noise((2, 3, 4, 4), seed=3)
    step = {"eta": 0.6} if name == "ddim_eta" else {}
    for predicted, prediction in PREDICTIONS.items():
        network, called = made_up, predicted
        if (name, predicted) in GIVEN_NOISE:
            network, called = partial(made_up_noise, prediction), "epsilon"
        for dtype, tolerance in PRECISIONS:
            theirs = kind(**TRAILING, **options, prediction_type=called)
            start = noise(999).to(dtype)
            with monkeypatch.context() as patch:
                expected = their_samples(theirs, network, start, levels, noise, patch, **step)
            found = SAMPLERS[name](
                partial(made_up_x0, prediction),
                start,
                levels,
                noise=lambda i, dtype=dtype: noise(i).to(dtype),
            )
            assert found.dtype == expected.dtype == dtype
            scale = max(1.0, float(expected.abs().max()))
            agree(
                found / scale,
                expected / scale,
                component=f"{kind.__name__} ({name})",
                configuration=f"{predicted}, {num_steps} steps",
                tolerance=tolerance,
            )


@pytest.mark.parametrize("num_steps", [10, 20, 50])
@pytest.mark.parametrize("called", ["v_prediction", "sample"])
def test_ddim_from_no_signal_is_diffusers_ddim(num_steps: int, called: str, agree: Agree) -> None:
    theirs = diffusers.DDIMScheduler(
        **TRAILING, clip_sample=False, rescale_betas_zero_snr=True, prediction_type=called
    )
    schedule, prediction = WITHOUT_SIGNAL["zero_terminal_snr"], PREDICTIONS[called]
    theirs.alphas_cumprod = schedule.alpha(torch.arange(1000)).square()
    theirs.set_timesteps(num_steps)
    start = expected = keyed_noise((2, 3, 4, 4))(999)
    for t in theirs.timesteps:
        expected = theirs.step(made_up(expected, t), t, expected).prev_sample

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return prediction.x0(x, made_up(x, t), *column(schedule.alpha(t), schedule.sigma(t)))

    found = ddim(denoise, start, schedule.levels(num_steps), noise=no_noise)
    agree(
        found,
        expected,
        component="DDIMScheduler (ddim), zero terminal SNR",
        configuration=f"{called}, {num_steps} steps",
        tolerance=1e-9,
    )


FLOW_OPTIONS = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
STRAIGHT: dict[str, tuple[type, dict[str, Any]]] = {
    "euler": (diffusers.FlowMatchEulerDiscreteScheduler, {}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, FLOW_OPTIONS),
    "dpmpp_2m_sde": (
        diffusers.DPMSolverMultistepScheduler,
        FLOW_OPTIONS | {"algorithm_type": "sde-dpmsolver++"},
    ),
    "unipc": (diffusers.UniPCMultistepScheduler, FLOW_OPTIONS),
}


@pytest.mark.parametrize("num_steps", [10, 20, 50])
@pytest.mark.parametrize("name", STRAIGHT)
def test_samplers_on_a_straight_line_are_diffusers_samplers(
    name: str, num_steps: int, monkeypatch: pytest.MonkeyPatch, agree: Agree
) -> None:
    """From pure noise. Not heun: theirs averages velocities along sigma, ours the noise along s."""
    schedule, noise = WITHOUT_SIGNAL["flow"], keyed_noise((2, 3, 4, 4))
    levels = schedule.levels(num_steps)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (c.to(x.dtype) for c in column(schedule.alpha(t), schedule.sigma(t)))
        return Flow().x0(x, made_up(x, t), alpha, sigma)

    kind, options = STRAIGHT[name]
    for dtype, tolerance in PRECISIONS:
        start = noise(999).to(dtype)
        with monkeypatch.context() as patch:
            expected = their_samples(
                kind(**options), made_up, start, levels, noise, patch, take=take_straight_levels
            )
        found = SAMPLERS[name](
            denoise, start, levels, noise=lambda i, dtype=dtype: noise(i).to(dtype)
        )
        agree(
            found,
            expected,
            component=f"{kind.__name__} ({name})",
            configuration=f"flow, {num_steps} steps",
            tolerance=tolerance,
        )
