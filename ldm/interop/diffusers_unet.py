"""The UNet's folder in diffusers' format: config.json beside safetensors weights."""

from pathlib import Path
from types import NoneType
from typing import Any

import torch

from ldm.backbones.unet import UNet
from ldm.interop.config_values import Kind, require
from ldm.interop.diffusers_config import (
    UNET_BLOCKS,
    UNET_DEFAULTS,
    checked,
    to_ours,
    to_theirs,
    unsupported,
)
from ldm.interop.diffusers_files import CONFIG, filled, find, read, write

OWN_UNET = "ldm.UNet"  # the class name of a UNet that diffusers has no class for
_TIME_SHIFT = {False: "default", True: "scale_shift"}  # adaptive_norm in their words
SIZE_EMBEDDING_DIM = 256  # of SDXL and its refiner, the models whose condition has a vector
_PLAIN: Kind = (  # all that the arguments of a UNet consist of
    lambda value: all(
        type(entry) in (int, bool, NoneType)
        for entry in (value if isinstance(value, list) else [value])
    ),
    "whole numbers, flags or null, or a list of these",
)


def write_unet(unet: UNet, folder: str | Path, *, sample_size: int | None = None) -> None:
    """Write a UNet as ``UNet2DConditionModel.from_pretrained(folder)`` reads it.

    A network with plain attention or residual resampling, which that class lacks, is written with
    our own arguments under the class name ``ldm.UNet``.
    ``sample_size`` is the latent size (h = w) that pipelines use when none is asked for.
    """
    if unet.config["residual_resampling"] or 0 in unet.config["transformer_depth"]:
        # Dhariwal and Nichol's blocks: diffusers' conditional UNet has none, so the words are ours.
        write(unet, folder, unet.config, class_name=OWN_UNET, sample_size=sample_size)
        return
    config = to_theirs(unet.config, UNET_BLOCKS)
    config["resnet_time_scale_shift"] = _TIME_SHIFT[unet.config["adaptive_norm"]]
    if unet.vector_dim is not None:
        config["addition_embed_type"] = "text_time"
        config["addition_time_embed_dim"] = SIZE_EMBEDDING_DIM
    elif unet.pooling_heads is not None:
        config["addition_embed_type"] = "text"
        config["addition_embed_type_num_heads"] = unet.pooling_heads
    write(unet, folder, config, class_name="UNet2DConditionModel", sample_size=sample_size)


def read_unet(folder: str | Path) -> UNet:
    """The bare backbone of a UNet folder, in fp32 on the CPU.

    ValueError when a file is missing or damaged, or an option is not supported.
    """
    return filled(empty_unet(folder), _file(folder).parent)


def empty_unet(folder: str | Path) -> UNet:
    """The same without its weights, on the meta device."""
    file = _file(folder)
    found = read(file)
    if found.get("_class_name") == OWN_UNET:
        ours = {k: v for k, v in found.items() if not k.startswith("_") and k != "sample_size"}
        require(file, ours, dict.fromkeys(ours, _PLAIN))
        return _made(ours, file)
    theirs = checked(found, file, class_name="UNet2DConditionModel", defaults=UNET_DEFAULTS)
    ours = to_ours(theirs, UNET_BLOCKS, file)
    if (norm := theirs["resnet_time_scale_shift"]) not in _TIME_SHIFT.values():
        raise unsupported(file, "resnet_time_scale_shift", norm, tuple(_TIME_SHIFT.values()))
    ours |= {"adaptive_norm": norm == _TIME_SHIFT[True], "residual_resampling": False}
    ours["pooling_heads"] = None
    addition = (theirs["addition_embed_type"], theirs["addition_time_embed_dim"])
    if ours["vector_dim"] is None and addition == ("text", None):
        ours["pooling_heads"] = theirs["addition_embed_type_num_heads"]
    else:
        allowed = (None, None) if ours["vector_dim"] is None else ("text_time", SIZE_EMBEDDING_DIM)
        if addition != allowed:
            option = "(addition_embed_type, addition_time_embed_dim)"
            raise unsupported(file, option, addition, allowed)
    return _made(ours, file)


def _file(folder: str | Path) -> Path:
    return find(folder, "unet", CONFIG, made_by="ldm train experiment=demo_diffusion")


def _made(ours: dict[str, Any], file: Path) -> UNet:
    try:
        with torch.device("meta"):
            return UNet(**ours)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} does not describe a UNet of this version: {error}") from error
