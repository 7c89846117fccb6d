"""A latent cache and the configuration that is to train on it: whether they fit."""

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder, part_input
from ldm.data.latents.cache import LatentCache
from ldm.diffusion.latent_scale import LatentScale


def latent_scale(cache: LatentCache, mode: str) -> LatentScale:
    """Per-channel standardisation, or one factor for all channels as Stable Diffusion has it."""
    if mode == "per_channel":
        return LatentScale(cache.mean, cache.std)
    mean, std = torch.tensor(cache.mean), torch.tensor(cache.std)
    # The spread of all channels together around zero: what dividing by one factor makes unit.
    pooled = float((std.square() + mean.square()).mean().sqrt())
    return LatentScale([0.0], [pooled])


def verified_inputs(cache: LatentCache) -> dict[str, Path]:
    """Folders of the cache's autoencoder and text encoders, still the ones it was made with."""
    folders = {}
    for name in cache.manifest.inputs:
        if name == "shards":
            continue  # may be gone: the cache is all that is needed of them
        folder = input_folder(cache.manifest.inputs, name, cache.root)
        entry = cache.manifest.inputs[name]
        found = part_input(str(folder), entry.get("part", "vae"))["fingerprint"]
        made_with = entry["fingerprint"]
        if found != made_with:
            raise UserError(
                f"the latent cache {cache.root} was made with another {name} (fingerprint "
                f"{made_with}) than lies at {folder} now ({found}). Make it again: ldm cache "
                f"out={cache.root} ..., after deleting it."
            )
        folders[name] = folder
    return folders


def check_size(config: DictConfig, cache: LatentCache, stride: int) -> None:
    """UserError where the pictures have another size, or latents do not divide by ``stride``."""
    if config.size != cache.size_px:
        raise UserError(
            f"size={config.size}, but the latents of {cache.root} are of pictures of "
            f"{cache.size_px} px; set size={cache.size_px}, or cache them again with `ldm cache "
            f"size={config.size} ...`."
        )
    for (_, height, width), (height_px, width_px) in zip(cache.shapes, cache.sizes_px, strict=True):
        if height % stride or width % stride:
            multiple = stride * height_px // height
            setting = "bucket_step" if cache.manifest.settings["buckets"] else "size"
            raise UserError(
                f"latents of {height} x {width} (pictures of {width_px}x{height_px} px) cannot be "
                f"halved to the depth of this backbone, which needs multiples of {stride}; cache "
                f"pictures with a {setting} that is a multiple of {multiple}, or use fewer "
                "backbone.channels."
            )


def check_widths(
    config: DictConfig,
    cache: LatentCache,
    width: int | None,
    vector_dim: int | None,
    *,
    with_classes: bool,
) -> None:
    """UserError naming all settings of the backbone that do not fit latents or condition.

    Of the condition tokens are so wide, and a vector beside them; None where it has no such.
    """
    channels = len(cache.mean)
    fitting: dict[str, Any] = {
        "in_channels": channels, "out_channels": channels, "context_dim": width,
        "vector_dim": vector_dim,
    }  # fmt: skip
    if (width is None and not with_classes) or vector_dim is not None:
        fitting["pooling_heads"] = None  # pools tokens, and excludes a vector
    if width is None and not with_classes and "transformer_depth" in config.backbone:
        fitting["transformer_depth"] = [0] * len(config.backbone.transformer_depth)
    if with_classes:  # whose tokens are as wide as the backbone likes
        del fitting["context_dim"]
    wrong = {key: value for key, value in fitting.items() if config.backbone.get(key) != value}
    if wrong:
        found = ", ".join(f"{key}={_plain(config, key)}" for key in wrong)
        wanted = " ".join(f"backbone.{key}={_typed(value)}" for key, value in wrong.items())
        raise UserError(
            f"the backbone ({found}) does not fit {cache.root}, which was cached with "
            f"{channels} channels and condition={cache.manifest.settings['condition']}; set "
            f"{wanted}."
        )


def _plain(config: DictConfig, key: str) -> str:
    value = config.backbone.get(key)
    return _typed(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)


def _typed(value: Any) -> str:
    """A value as one types it on the command line."""
    return json.dumps(value, separators=(",", ":"))
