"""`ldm sample`: prompts, and pictures to begin from -> pictures."""

from collections.abc import Iterator, Sequence
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
    size_of,
    write_samples,
)
from ldm.apps.source_picture import SourcePicture, edit_record, fitted, read_source, tell
from ldm.data.images import grey, to_tensor, to_uint8
from ldm.generation import Edit, Spacing, TextToImage, require_mask
from ldm.interop.diffusers_grid import diffusers_levels
from ldm.interop.pipeline import is_inpainting, pictures_px, read_pipeline
from ldm.metrics.protocol import differences


def sample(config: DictConfig) -> int:
    """Write the pictures into ``out``, unless they are there."""
    pictures, source, like = asked(config)
    out = Path(config.out)
    edit = None
    if source is not None:
        side = pictures_px(model_folder(config.model, "unet"))
        edit = fitted(source, size_of(config) or (side, side), config)
        tell(source, edit, config)
    record = record_of(config, pictures, None if edit is None else edit_record(edit, config))
    if like is not None:
        _tell_differences(config.like, like, record)
    if is_finished(out, record):
        print(f"{out}: these {len(pictures)} pictures are there already, {out / GRID}")
        return 0
    model = load_model(config, pictures, edit)
    edit = edit and _in_channels_of(model, edit)
    model.check(edit, model.size(size_of(config)))
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
    config: DictConfig, pictures: Sequence[Picture], edit: Edit | None = None
) -> TextToImage:
    """The model at ``model=`` on the device of ``accelerator=``, which can do what is asked.

    ValueError for one that cannot, where its configuration says so before anything is loaded.
    """
    folder = model_folder(config.model, "unet")
    if is_inpainting(folder):
        require_mask(edit)
    model = read_pipeline(folder)
    model.levels(config.steps, _spacing(config))
    size = model.size(size_of(config))
    model.sizes(config.sizes, size)
    model.sizes(config.negative_sizes, size, negative=True)
    words = dict.fromkeys(picture.prompt for picture in pictures)
    words |= dict.fromkeys(p.prompt_to for p in pictures if p.prompt_to is not None)
    model.text_encoder.tokenize([*words, config.negative])
    return model.to(device_of(config.accelerator))


def _in_channels_of(model: TextToImage, edit: Edit) -> Edit:
    """The edit of a picture in colour for a model of grey ones too; UserError for others."""
    channels = model.image_channels
    if channels not in (1, 3):
        raise UserError(
            f"image= takes pictures in colour or grey, and this model's have {channels} channels."
        )
    if channels == 3:
        return edit
    return edit._replace(image=to_tensor(grey(to_uint8(edit.image))))


def generate(
    model: TextToImage,
    pictures: Sequence[Picture],
    config: DictConfig,
    *,
    edit: Edit | None = None,
    name: str,
) -> Tensor:
    """Images (N, 3, H, W) in [-1, 1] of the pictures on the CPU."""
    blocks = drawn(model, pictures, config, edit=edit)
    count = -(-(pictures[0].position + len(pictures)) // config.block)
    return torch.cat([images.cpu() for images in track(blocks, name, count)])


def drawn(
    model: TextToImage,
    pictures: Sequence[Picture],
    config: DictConfig,
    *,
    edit: Edit | None = None,
) -> Iterator[Tensor]:
    """Images (B, 3, H, W) in [-1, 1] of the pictures, block by block on the model's device."""
    return model.in_blocks(
        [picture.prompt for picture in pictures],
        [picture.seed for picture in pictures],
        block=config.block,
        first=pictures[0].position,
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
        size=size_of(config),
    )


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
