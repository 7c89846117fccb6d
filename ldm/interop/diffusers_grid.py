"""The noise levels that diffusers' pipelines visit for a Stable Diffusion scheduler config."""

import torch

from ldm.diffusion.schedule import Levels, NoiseSchedule

# By sampler: how many more steps than asked for the stride is made for, and whether the last
# level is clean or that of the first training step (their set_alpha_to_one = False).
_GRIDS = {
    "ddim": (0, False),
    "pndm": (0, False),
    "ddpm": (0, True),
    "euler": (0, True),
    "euler_ancestral": (0, True),
    "heun": (0, True),
    "dpmpp_2m": (1, True),
    "dpmpp_2m_sde": (1, True),
    "unipc": (1, True),
}
_OFFSET = 1  # their steps_offset


def diffusers_levels(schedule: NoiseSchedule, num_steps: int, *, sampler: str) -> Levels:
    """The ``num_steps`` + 1 levels of ``StableDiffusionPipeline`` with the scheduler of a sampler.

    That is what their schedulers do of themselves with timestep_spacing leading, steps_offset 1
    and set_alpha_to_one False, the options of Stable Diffusion's published config. Where they
    start from noise of scale sqrt(sigma^2 + 1), their x is ours divided by alpha: in our frame
    each starts from noise of scale 1. ValueError for a sampler that they do not have.
    """
    if sampler not in _GRIDS:
        raise ValueError(
            f"spacing=diffusers knows no sampler {sampler!r}; choose one of {', '.join(_GRIDS)}, "
            "or spacing=trailing."
        )
    first = torch.stack([schedule.alpha(schedule.steps[:1]), schedule.sigma(schedule.steps[:1])])
    if not torch.allclose(first.square().sum(0), torch.ones_like(first[0])):
        raise ValueError(
            "spacing=diffusers is Stable Diffusion's, whose schedule preserves variance; with "
            f"schedule {schedule.description['name']} set spacing=trailing."
        )
    more, ends_clean = _GRIDS[sampler]
    total = schedule.num_steps
    if not 1 <= num_steps < total - more:
        raise ValueError(
            f"steps must lie in 1..{total - more - 1} with sampler={sampler} and "
            f"spacing=diffusers, found {num_steps}."
        )
    stride = total // (num_steps + more)
    falling = torch.arange(num_steps - 1 + more, more - 1, -1, device=schedule.steps.device)
    t = (falling * stride + _OFFSET).to(torch.float64)
    last = first.new_tensor([[1.0], [0.0]]) if ends_clean else first
    return Levels(
        t=torch.cat([t, torch.zeros_like(t[:1])]),
        alpha=torch.cat([schedule.alpha(t), last[0]]),
        sigma=torch.cat([schedule.sigma(t), last[1]]),
    )
