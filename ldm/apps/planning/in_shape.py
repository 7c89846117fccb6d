"""A stage's networks with CLIP towers in shape alone: for estimates before every command.

open_clip, whose towers they stand for, takes seconds to import.
"""

from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ldm.apps.planning.companions import Companions
from ldm.apps.planning.parts import BATCH, Parts, Pass, parts_of
from ldm.text.clip import STATES
from ldm.text.clip_shapes import TEXT, ClipShapes, describes


def towers_in_shape(settings: DictConfig | None) -> ClipShapes | None:
    """The towers of a configuration on the meta device; None for what has other shapes."""
    known = {"_target_", "embed_dim", "vision", "text", "quick_gelu", "states"}
    if settings is None or str(settings.get("_target_")) != "ldm.text.clip.ClipTowers":
        return None
    if {*settings} != known or settings.states not in STATES:
        return None  # the towers themselves say what is wrong
    vision: Any = OmegaConf.to_container(settings.vision)
    text: Any = OmegaConf.to_container(settings.text)
    if not describes(vision, text):
        return None
    with torch.device("meta"):
        return ClipShapes(embed_dim=settings.embed_dim, vision=vision, text=text)


def text_in_shape(settings: DictConfig | None) -> nn.Module | None:
    """The weights of a text encoder, of one tower or of two; None likewise."""
    if settings is None:
        return None
    if str(settings.get("_target_")) == "ldm.text.sdxl_text.SdxlText":
        return nn.ModuleList(map(_text_tower, (settings.text_encoder, settings.text_encoder_2)))
    towers = towers_in_shape(settings)
    if towers is not None:
        del towers.model.visual
    return towers


def _text_tower(settings: DictConfig) -> nn.Module:
    shape = {key: settings[key] for key in TEXT}
    with torch.device("meta"):
        towers = ClipShapes(embed_dim=settings.embed_dim or 1, vision={"width": 64}, text=shape)
    del towers.model.visual
    if settings.embed_dim is None:  # its captions are not pooled
        del towers.model.text_projection
    return towers


def parts_in_shape(config: DictConfig, with_: Companions) -> Parts:
    """What ``parts_of`` gives, as far as memory is concerned."""
    if config.stage == "diffusion":  # without gradients the text tower keeps nothing
        text = text_in_shape(with_.text_encoder)
        if text is None:
            return parts_of(config, with_)
        parts = parts_of(config, replace(with_, text_encoder=None))
        parts.frozen["text_encoder"] = text
        return parts
    is_product = config.stage == "text_encoder"
    towers = towers_in_shape(config.text_encoder if is_product else with_.text_encoder)
    if towers is None:
        return parts_of(config, with_)
    if is_product:
        side = config.text_encoder.vision.image_size
        way = Pass("towers", towers, lambda: _compared(config, towers))
        return Parts(towers, {(side, side): (way, 1)})
    parts = parts_of(OmegaConf.merge(config, {"perceptual": "none"}), with_)  # type: ignore[arg-type]
    visual = towers.model.visual.requires_grad_(False)
    parts.frozen["perceptual"] = visual
    assert with_.text_encoder is not None
    side = with_.text_encoder.vision.image_size
    parts.beside.append(Pass("perceptual", visual, lambda: _seen(visual, side), exact=True))
    return parts


def _compared(config: DictConfig, towers: ClipShapes) -> Tensor:
    side, length = config.text_encoder.vision.image_size, config.text_encoder.text.context_length
    with torch.device("meta"):
        ids = torch.zeros(BATCH, length, dtype=torch.int64)
        pictures, texts, _ = towers(torch.zeros(BATCH, 3, side, side), ids)
    return pictures * texts


def _seen(visual: nn.Module, side: int) -> Tensor:
    """A reconstruction, of which gradients are asked, through the image tower."""
    with torch.device("meta"):
        image = torch.zeros(BATCH, 3, side, side, requires_grad=True)
        found: Tensor = visual(image)
    return found
