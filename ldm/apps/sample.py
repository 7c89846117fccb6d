"""`ldm sample`: prompts -> pictures."""

from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import build, device_of
from ldm.apps.conditioning import condition_inputs
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder
from ldm.apps.progress import track
from ldm.apps.sample_folder import (
    GRID,
    guidance_interval,
    is_finished,
    open_samples,
    record_of,
    sampler_name,
    write_samples,
)
from ldm.generation import Spacing, TextToImage
from ldm.interop.diffusers_grid import diffusers_levels
from ldm.interop.pipeline import read_pipeline


def sample(config: DictConfig) -> int:
    """Write the pictures into ``out``, unless they are there."""
    prompts = [prompt for prompt in _prompts(config) for _ in range(config.num)]
    out, record = Path(config.out), record_of(config, prompts)
    if is_finished(out, record):
        print(f"{out}: these {len(prompts)} pictures are there already, {out / GRID}")
        return 0
    model = load_model(config, prompts)
    open_samples(out, record)
    images = generate(model, prompts, config, name=f"sample ({out})")
    write_samples(images, record, out)
    print(f"{out}: {len(images)} pictures, {out / GRID}")
    return 0


def load_model(config: DictConfig, prompts: list[str]) -> TextToImage:
    """The model at ``model=`` on the device of ``accelerator=``, which can do what is asked."""
    model = read_pipeline(model_folder(config.model, "unet"))
    model.levels(config.steps, _spacing(config))
    model.sizes(config.sizes)
    model.sizes(config.negative_sizes, negative=True)
    model.text_encoder.tokenize([*dict.fromkeys(prompts), config.negative])
    return model.to(device_of(config.accelerator))


def generate(model: TextToImage, prompts: list[str], config: DictConfig, *, name: str) -> Tensor:
    """Images (N, 3, H, W) in [-1, 1] of all prompts on the CPU; image i uses seed + i."""
    blocks = model.in_blocks(
        prompts,
        range(config.seed, config.seed + len(prompts)),
        block=config.block,
        sampler=build(config.sampler),
        steps=config.steps,
        guidance=float(config.guidance),
        guidance_rescale=float(config.guidance_rescale),
        guidance_interval=guidance_interval(config),
        spacing=_spacing(config),
        negative=config.negative,
        sizes=config.sizes,
        negative_sizes=config.negative_sizes,
    )
    count = -(-len(prompts) // config.block)
    return torch.cat([images.cpu() for images in track(blocks, name, count)])


def _spacing(config: DictConfig) -> Spacing:
    if config.spacing == "diffusers":
        return partial(diffusers_levels, sampler=sampler_name(config))
    return str(config.spacing)


def _prompts(config: DictConfig) -> list[str]:
    if not condition_inputs(config.model):
        if config.prompt or config.prompts or config.negative:
            raise UserError(
                f"the model {config.model} is conditioned by nothing; leave prompt=, prompts= and "
                "negative= out."
            )
        return [""]
    if (config.prompt is None) == (config.prompts is None):
        raise UserError('give either prompt="..." or prompts=FILE (one prompt per line).')
    if config.prompt is not None:
        return [str(config.prompt)]
    file = Path(config.prompts)
    if not file.is_file():
        raise UserError(f"prompts={file}: there is no such file.")
    lines = [line.strip() for line in file.read_text().splitlines()]
    if not any(lines):
        raise UserError(f"prompts={file} holds no prompt.")
    return [line for line in lines if line]
