"""`ldm sample`: prompts -> pictures."""

from pathlib import Path

import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from ldm.apps.build import build
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder
from ldm.apps.progress import track
from ldm.callbacks.sample_grid import save_grid
from ldm.data.images import to_uint8
from ldm.generation import TextToImage
from ldm.interop.pipeline import read_pipeline
from ldm.manifest import write_json


def sample(config: DictConfig) -> int:
    """Write 000000.png, ..., grid.png and prompts.json into ``out``."""
    prompts = [prompt for prompt in _prompts(config) for _ in range(config.num)]
    model = load_model(config)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    images = generate(model, prompts, config, name=f"sample ({out})")
    write_images(images, prompts, out, seed=config.seed)
    print(f"{out}: {len(images)} pictures, {out / 'grid.png'}")
    return 0


def load_model(config: DictConfig) -> TextToImage:
    """The model at ``model=`` on the device of ``accelerator=``."""
    model = read_pipeline(model_folder(config.model, "unet"))
    return model.to("cuda" if config.accelerator == "gpu" else "cpu")


def generate(model: TextToImage, prompts: list[str], config: DictConfig, *, name: str) -> Tensor:
    """Images (N, 3, H, W) in [-1, 1] of all prompts on the CPU; image i uses seed + i."""
    blocks = model.in_blocks(
        prompts,
        range(config.seed, config.seed + len(prompts)),
        block=config.block,
        sampler=build(config.sampler),
        steps=config.steps,
        guidance=float(config.guidance),
        spacing=config.spacing,
        negative=config.negative,
    )
    count = -(-len(prompts) // config.block)
    return torch.cat([images.cpu() for images in track(blocks, name, count)])


def write_images(images: Tensor, prompts: list[str], out: Path, *, seed: int) -> None:
    """One PNG per image, named by its index, and a grid of the first 64."""
    for i, image in enumerate(images):
        Image.fromarray(to_uint8(image)).save(out / f"{i:06d}.png")
    save_grid(images[:64], out / "grid.png")
    rows = [{"prompt": prompt, "seed": seed + i} for i, prompt in enumerate(prompts)]
    write_json(out / "prompts.json", rows)


def _prompts(config: DictConfig) -> list[str]:
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
