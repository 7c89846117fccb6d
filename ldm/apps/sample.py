"""`ldm sample`: prompts, and pictures to begin from -> pictures."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import build, device_of
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder
from ldm.apps.png_record import PngRecord, read_png_record
from ldm.apps.progress import track
from ldm.apps.request import Picture, requested, towards
from ldm.apps.sample_folder import (
    GRID,
    guidance_interval,
    is_finished,
    open_samples,
    paths_of,
    record_of,
    sampler_name,
    write_samples,
)
from ldm.apps.source_picture import SourcePicture, read_source, tell
from ldm.generation import Edit, Spacing, TextToImage
from ldm.interop.diffusers_grid import diffusers_levels
from ldm.interop.pipeline import is_inpainting, read_pipeline
from ldm.metrics.protocol import differences


def sample(config: DictConfig) -> int:
    """Write the pictures into ``out``, unless they are there."""
    pictures, source, like = asked(config)
    out = Path(config.out)
    record = record_of(config, pictures, None if source is None else source.record)
    if like is not None:
        _tell_differences(config.like, like, record)
    if is_finished(out, record):
        print(f"{out}: these {len(pictures)} pictures are there already, {out / GRID}")
        return 0
    model = load_model(config, pictures, masked=source is not None and source.mask is not None)
    edit = None if source is None else source.fitted(model.size_px)
    model.check(edit)
    if source is not None:
        tell(source, model.size_px, config)
    open_samples(out, record)
    images = generate(model, pictures, config, edit=edit, name=f"sample ({out})")
    write_samples(images, pictures, record, out, paths=paths_of(config))
    print(f"{out}: {len(images)} pictures, {out / GRID}")
    return 0


def asked(config: DictConfig) -> tuple[list[Picture], SourcePicture | None, PngRecord | None]:
    """Pictures, the picture they begin from, and the one they are like; no model is needed.

    UserError for what does not go together.
    """
    for key in ("image", "mask", "like"):
        file = config[key]
        if file is not None and Path(file).resolve().parent == Path(config.out).resolve():
            raise UserError(
                f"{key}={file} lies in out={config.out}, whose pictures would make place for the "
                "new ones; choose another out=."
            )
    like = None if config.like is None else read_png_record(config.like)
    pictures = requested(config, None if like is None else like.picture)
    return pictures, read_source(config), like


def load_model(
    config: DictConfig, pictures: Sequence[Picture], *, masked: bool = False
) -> TextToImage:
    """The model at ``model=`` on the device of ``accelerator=``, which can do what is asked.

    UserError for one that needs a picture and a mask with each prompt, unless there are any.
    """
    folder = model_folder(config.model, "unet")
    if is_inpainting(folder) and not masked:
        raise UserError(
            f"model={config.model} paints the masked part of a picture: `ldm sample` takes one "
            "with image=FILE mask=FILE (white is painted)."
        )
    model = read_pipeline(folder)
    model.levels(config.steps, _spacing(config))
    model.sizes(config.sizes)
    model.sizes(config.negative_sizes, negative=True)
    words = dict.fromkeys(picture.prompt for picture in pictures)
    words |= dict.fromkeys(p.prompt_to for p in pictures if p.prompt_to is not None)
    model.text_encoder.tokenize([*words, config.negative])
    return model.to(device_of(config.accelerator))


def generate(
    model: TextToImage,
    pictures: Sequence[Picture],
    config: DictConfig,
    *,
    edit: Edit | None = None,
    name: str,
) -> Tensor:
    """Images (N, 3, H, W) in [-1, 1] of the pictures on the CPU."""
    first = pictures[0].position
    blocks = model.in_blocks(
        [picture.prompt for picture in pictures],
        [picture.seed for picture in pictures],
        block=config.block,
        first=first,
        towards=towards(pictures),
        edit=edit,
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
    count = -(-(first + len(pictures)) // config.block)
    return torch.cat([images.cpu() for images in track(blocks, name, count)])


def _spacing(config: DictConfig) -> Spacing:
    if config.spacing == "diffusers":
        return partial(diffusers_levels, sampler=sampler_name(config))
    return str(config.spacing)


def _tell_differences(file: str, like: PngRecord, record: dict[str, Any]) -> None:
    """Print in what the first picture will differ from the one it is to be like."""
    now = record["protocol"] | record["pictures"][0]
    del now["file"]
    before = like.protocol | like.picture.row()
    found = differences({"protocol": before}, {"protocol": now})
    if found:
        print(f"like={file}: other than there are {', '.join(found)}")
