"""Beginning from a picture: how many steps, from which level; and keeping a part of one."""

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from torch import Tensor

from ldm.diffusion.editing import keeping, mask_channels, shortened, steps_left
from ldm.diffusion.samplers.ddim import ddim
from ldm.interop.diffusers_grid import diffusers_levels
from tests.diffusion.test_samplers import SAMPLERS, SCHEDULE, keyed_noise, made_up

STRENGTHS = [0.02, 0.05, 0.29, 0.5, 0.58, 0.7, 0.75, 0.8, 0.99, 1.0]


@pytest.mark.parametrize("num_steps", [7, 10, 50, 100])
def test_as_many_steps_as_diffusers(num_steps: int) -> None:
    pipeline = object.__new__(StableDiffusionImg2ImgPipeline)
    object.__setattr__(pipeline, "scheduler", DDIMScheduler(steps_offset=1))
    pipeline.scheduler.set_timesteps(num_steps)
    levels = diffusers_levels(SCHEDULE, num_steps, sampler="ddim")
    for strength in STRENGTHS:
        expected, left = pipeline.get_timesteps(num_steps, strength, "cpu")
        if left == 0:
            with pytest.raises(ValueError, match="leaves no step"):
                shortened(levels, strength)
        else:
            found = shortened(levels, strength)
            assert (found.num_steps, steps_left(num_steps, strength)) == (left, left)
            assert found.t[:-1].tolist() == expected.tolist()


def test_the_level_of_the_noise_is_the_first_that_is_denoised() -> None:
    """And not the one before it, as in CompVis' script: 801, where it denoised from 781 on."""
    levels = shortened(diffusers_levels(SCHEDULE, 50, sampler="ddim"), 0.8)
    assert (levels.num_steps, float(levels.t[0])) == (40, 781.0)
    assert float(levels.alpha[0]) == float(SCHEDULE.alpha(torch.tensor(781.0)))
    whole = SCHEDULE.levels(50)
    assert all(torch.equal(a, b) for a, b in zip(shortened(whole, 1.0), whole, strict=True))


@pytest.mark.parametrize("num_steps, strength", [(10, 0.05), (30, 0.03), (7, 0.1), (1, 0.99)])
def test_no_step_left_says_what_leaves_one(num_steps: int, strength: float) -> None:
    with pytest.raises(ValueError, match="leaves no step") as error:
        steps_left(num_steps, strength)
    words = dict(word.rstrip(",").split("=") for word in str(error.value).split() if "=" in word)
    assert steps_left(num_steps, float(words["strength"])) == 1
    assert steps_left(int(words["steps"]), strength) == 1


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01])
def test_a_strength_out_of_range(strength: float) -> None:
    with pytest.raises(ValueError, match="above 0, up to 1"):
        steps_left(10, strength)


KNOWN = torch.linspace(-1, 1, 64, dtype=torch.float64).view(1, 1, 8, 8)
MASK = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
MASK[..., 2:5, 3:] = True
NOISE = keyed_noise((2, 1, 8, 8))


def known_at(t: Tensor) -> Tensor:
    alpha, sigma = (c.view(-1, 1, 1, 1) for c in (SCHEDULE.alpha(t), SCHEDULE.sigma(t)))
    return alpha * KNOWN + sigma * NOISE(999)


def denoise(x: Tensor, t: Tensor) -> Tensor:
    """Something smooth in which every position sees the others."""
    return made_up(x + torch.roll(x, (1, 2), (-2, -1)) + x.mean((-2, -1), keepdim=True), t)


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_keeping_is_blending_after_each_step_with_one_noise(strength: float) -> None:
    levels = shortened(SCHEDULE.levels(10), strength)
    x = start = NOISE(999) if strength == 1.0 else known_at(levels.t[:1])
    for i in range(levels.num_steps):
        step = type(levels)(*(part[i : i + 2] for part in levels))
        x = ddim(denoise, x, step, noise=NOISE)
        last = i == levels.num_steps - 1
        x = torch.where(MASK, x, KNOWN if last else known_at(levels.t[i + 1 : i + 2]))
    found = keeping(ddim, KNOWN, known_at, MASK)(denoise, start, levels, noise=NOISE)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_look_of_every_sampler_finds_the_known_part(name: str) -> None:
    levels = SCHEDULE.levels(6)
    seen: list[tuple[Tensor, Tensor]] = []

    def watched(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x, t))
        return denoise(x, t)

    sampler = keeping(SAMPLERS[name], KNOWN, known_at, MASK)
    end = sampler(watched, NOISE(999), levels, noise=NOISE)
    outside = ~MASK.expand_as(end)
    assert torch.equal(end[outside], KNOWN.expand_as(end)[outside])
    assert torch.equal(seen[0][0], NOISE(999)) and len(seen) >= 6
    for x, t in seen[1:]:
        assert torch.equal(x[outside], known_at(t)[outside])
    assert len({float(t[0]) for _, t in seen}) == 6  # those within a step are at a level too


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_sampler_mixes_positions(name: str) -> None:
    """What blending relies on: with a network that mixes none, the inside knows no outside."""
    levels, other = SCHEDULE.levels(6), keyed_noise((2, 1, 8, 8), seed=5)
    ends = [
        SAMPLERS[name](
            made_up,
            torch.where(MASK, NOISE(999), outside(999)),
            levels,
            noise=lambda i, outside=outside: torch.where(MASK, NOISE(i), outside(i)),
        )
        for outside in (NOISE, other)
    ]
    inside = MASK.expand_as(ends[0])
    assert torch.equal(ends[0][inside], ends[1][inside]) and not torch.equal(*ends)


def test_an_inpainting_network_sees_the_mask_first() -> None:
    masked = torch.randn(1, 4, 8, 8)
    channels = mask_channels(MASK, masked)
    assert channels.shape == (1, 5, 8, 8) and channels.dtype == masked.dtype
    assert torch.equal(channels[:, :1], MASK.float())  # 1 is painted, 0 stays
    assert torch.equal(channels[:, 1:], masked)
