"""spacing=diffusers: the levels of diffusers' own schedulers, and through them its samples."""

import importlib
from functools import partial
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from ldm.apps.config_files import config_root
from ldm.diffusion.schedules.flow import flow
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.interop.diffusers_grid import diffusers_levels
from tests.parity import Agree

SCHEDULE = scaled_linear(num_steps=1000, start=0.00085, end=0.012)
# Stable Diffusion's scheduler_config.json, as its pipeline completes it.
STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
}
SCHEDULERS: dict[str, tuple[type, dict[str, Any]]] = {
    "ddim": (diffusers.DDIMScheduler, {}),
    "ddpm": (diffusers.DDPMScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "heun": (diffusers.HeunDiscreteScheduler, {}),
    "pndm": (diffusers.PNDMScheduler, {}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_sde": (
        diffusers.DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++"},
    ),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
}
STEPS = [10, 20, 30, 50]


def scheduler_of(name: str, num_steps: int) -> Any:
    kind, options = SCHEDULERS[name]
    scheduler = kind.from_config(STABLE_DIFFUSION, **options)  # type: ignore[attr-defined]
    scheduler.set_timesteps(num_steps)
    return scheduler


def test_every_sampler_has_its_grid() -> None:
    assert {path.stem for path in (config_root() / "sampler").glob("*.yaml")} == set(SCHEDULERS)


@pytest.mark.parametrize("num_steps", [*STEPS, 333, 998])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_levels_are_those_of_the_scheduler(name: str, num_steps: int) -> None:
    theirs = scheduler_of(name, num_steps)
    levels = diffusers_levels(SCHEDULE, num_steps, sampler=name)
    assert levels.num_steps == num_steps
    # PNDM and Heun list steps twice that they evaluate twice.
    assert levels.t[:-1].tolist() == list(dict.fromkeys(theirs.timesteps.tolist()))
    if hasattr(theirs, "sigmas"):
        expected = torch.tensor(list(dict.fromkeys(theirs.sigmas.tolist())), dtype=torch.float64)
    else:
        last = getattr(theirs, "final_alpha_cumprod", torch.tensor(1.0))
        alpha_bar = torch.cat([theirs.alphas_cumprod[levels.t[:-1].long()], last[None]]).double()
        expected = ((1 - alpha_bar) / alpha_bar).sqrt()
    torch.testing.assert_close(levels.sigma / levels.alpha, expected, rtol=5e-5, atol=1e-8)
    torch.testing.assert_close(levels.alpha.square() + levels.sigma.square(), 1 + 0 * levels.t)
    in_their_frame = hasattr(theirs, "is_scale_input_called") or name == "heun"
    scale = float(theirs.init_noise_sigma) * (float(levels.alpha[0]) if in_their_frame else 1.0)
    assert scale == pytest.approx(1.0, rel=1e-5)


def network(x: Tensor, t: Tensor) -> Tensor:
    time = t.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1)) / 1000
    return torch.sin(2 * x + 3 * time) + 0.3 * x


def fresh(step: int) -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_samples_are_those_of_the_pipeline(
    name: str, num_steps: int, monkeypatch: pytest.MonkeyPatch, agree: Agree
) -> None:
    """Their loop around the network, untouched but for its source of noise, in float32."""
    theirs = scheduler_of(name, num_steps)
    steps = iter(range(num_steps))
    module = importlib.import_module(type(theirs).__module__)
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: fresh(next(steps)), raising=False)
    x = fresh(999) * theirs.init_noise_sigma
    for t in theirs.timesteps:
        x = theirs.step(network(theirs.scale_model_input(x, t), t), t, x).prev_sample

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (c.float().view(-1, 1, 1, 1) for c in (SCHEDULE.alpha(t), SCHEDULE.sigma(t)))
        return (x - sigma * network(x, t)) / alpha

    sampler = getattr(importlib.import_module(f"ldm.diffusion.samplers.{name}"), name)
    levels = diffusers_levels(SCHEDULE, num_steps, sampler=name)
    found = sampler(denoise, fresh(999), levels, noise=fresh)
    scale = x.abs().max()
    agree(
        found / scale,
        x / scale,
        component=f"{type(theirs).__name__} ({name})",
        configuration=f"spacing=diffusers, {num_steps} steps",
        tolerance=1e-4,
    )


def test_what_has_no_such_grid_is_refused() -> None:
    levels = partial(diffusers_levels, SCHEDULE)
    with pytest.raises(ValueError, match="no sampler 'mine'.*spacing=trailing"):
        levels(10, sampler="mine")
    with pytest.raises(ValueError, match=r"1\.\.999.*found 1000"):
        levels(1000, sampler="ddim")
    with pytest.raises(ValueError, match=r"1\.\.998.*found 999"):
        levels(999, sampler="unipc")
    with pytest.raises(ValueError, match="schedule flow set spacing=trailing"):
        diffusers_levels(flow(num_steps=1000), 10, sampler="ddim")
