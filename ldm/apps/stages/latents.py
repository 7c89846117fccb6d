"""A latent cache and the configuration that is to train on it: whether they fit."""

from pathlib import Path

import torch
from omegaconf import DictConfig

from ldm.apps.conditioning import part_of
from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder, part_input
from ldm.data.cache import LatentCache
from ldm.diffusion.latent_scale import LatentScale
from ldm.types import ConditionEncoder


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
        found = part_input(str(folder), part_of(name, folder))["fingerprint"]
        made_with = cache.manifest.inputs[name]["fingerprint"]
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
    size_px, (height, width) = cache.manifest.settings["size_px"], cache.manifest.facts["shape"][1:]
    if config.size != size_px:
        raise UserError(
            f"size={config.size}, but the latents of {cache.root} are of pictures of {size_px} px; "
            f"set size={size_px}, or cache them again with `ldm cache size={config.size} ...`."
        )
    if height % stride or width % stride:
        multiple = stride * size_px // height
        raise UserError(
            f"latents of {height} x {width} cannot be halved to the depth of this backbone, which "
            f"needs multiples of {stride}; cache pictures whose size is a multiple of {multiple}, "
            "or use fewer backbone.channels."
        )


def check_widths(config: DictConfig, cache: LatentCache, text_encoder: ConditionEncoder) -> None:
    """UserError naming the setting of the backbone that does not fit latents or condition."""
    channels = len(cache.mean)
    if config.backbone.get("in_channels") != channels:
        raise UserError(
            f"backbone.in_channels={config.backbone.get('in_channels')}, but the latents of "
            f"{cache.root} have {channels} channels; set backbone.in_channels={channels} "
            f"backbone.out_channels={channels}."
        )
    width = "null" if text_encoder.width is None else text_encoder.width
    if config.backbone.get("context_dim") not in (text_encoder.width, None):  # None: unconditional
        raise UserError(
            f"backbone.context_dim={config.backbone.get('context_dim')}, but the latents of "
            f"{cache.root} were cached with tokens {width} wide; set backbone.context_dim={width}."
        )
    vector = "null" if text_encoder.vector_dim is None else text_encoder.vector_dim
    if config.backbone.get("vector_dim") != text_encoder.vector_dim:
        raise UserError(
            f"backbone.vector_dim={config.backbone.get('vector_dim')}, but the text encoder of "
            f"{cache.root} gives {vector} (the pooled caption and 6 x 256 for sizes, with two text "
            f"encoders as in Stable Diffusion XL); set backbone.vector_dim={vector}."
        )
