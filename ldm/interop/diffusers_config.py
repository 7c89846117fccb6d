"""Constructor arguments of our networks in the words of diffusers' config.json, and back.

One table of names; beside it every option that diffusers knows, so that what we do not have is
refused by name instead of being ignored.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ldm.interop.config_values import (
    COUNT,
    COUNTS,
    FLAG,
    NUMBER,
    NUMBERS,
    POSITIVE,
    TEXT,
    TEXTS,
    Kind,
    optional,
    require,
)

# Our arguments -> theirs. ``attention`` is spelt as block types (below); the autoencoder's
# ``image_channels`` is both of their in_channels and out_channels.
THEIR_NAME = {
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "latent_channels": "latent_channels",
    "channels": "block_out_channels",
    "layers_per_level": "layers_per_block",
    "groups": "norm_num_groups",
    "heads": "attention_head_dim",  # the number of heads, in spite of its name
    "transformer_depth": "transformer_layers_per_block",
    "context_dim": "cross_attention_dim",
    "vector_dim": "projection_class_embeddings_input_dim",
    "linear_projection": "use_linear_projection",
    "mid_attention": "mid_block_add_attention",
}
_PER_LEVEL = {"channels", "heads", "transformer_depth"}

Blocks = tuple[tuple[str, str], tuple[str, str]]
"""The block types (without, with attention) on the way down and on the way up."""
UNET_BLOCKS: Blocks = (
    ("DownBlock2D", "CrossAttnDownBlock2D"),
    ("UpBlock2D", "CrossAttnUpBlock2D"),
)
AUTOENCODER_BLOCKS: Blocks = (
    ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    ("UpDecoderBlock2D", "AttnUpDecoderBlock2D"),
)

# Every option of diffusers' constructors with its default. A file may leave any of them out; of
# those that are neither translated nor free, the default is also the only supported value.
UNET_DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 4, "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True, "freq_shift": 0,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "only_cross_attention": False, "mid_block_only_cross_attention": None,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "downsample_padding": 1, "mid_block_scale_factor": 1,
    "dropout": 0.0, "act_fn": "silu",
    "norm_num_groups": 32, "norm_eps": 1e-5,
    "cross_attention_dim": 1280, "attention_head_dim": 8, "num_attention_heads": None,
    "transformer_layers_per_block": 1, "reverse_transformer_layers_per_block": None,
    "encoder_hid_dim": None, "encoder_hid_dim_type": None,
    "dual_cross_attention": False, "use_linear_projection": False, "upcast_attention": False,
    "attention_type": "default", "cross_attention_norm": None,
    "class_embed_type": None, "num_class_embeds": None, "class_embeddings_concat": False,
    "addition_embed_type": None, "addition_time_embed_dim": None,
    "addition_embed_type_num_heads": 64, "projection_class_embeddings_input_dim": None,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False, "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional", "time_embedding_dim": None,
    "time_embedding_act_fn": None, "timestep_post_act": None, "time_cond_proj_dim": None,
    "conv_in_kernel": 3, "conv_out_kernel": 3,
}  # fmt: skip
AUTOENCODER_DEFAULTS: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
    "block_out_channels": [64], "layers_per_block": 1,
    "act_fn": "silu", "latent_channels": 4, "norm_num_groups": 32,
    "sample_size": 32, "force_upcast": True,
    "scaling_factor": 0.18215, "shift_factor": None,
    "latents_mean": None, "latents_std": None,
    "use_quant_conv": True, "use_post_quant_conv": True, "mid_block_add_attention": True,
}  # fmt: skip
VQ_DEFAULTS: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
    "block_out_channels": [64], "layers_per_block": 1,
    "act_fn": "silu", "latent_channels": 3, "sample_size": 32,
    "num_vq_embeddings": 256, "norm_num_groups": 32, "vq_embed_dim": None,
    "scaling_factor": 0.18215, "norm_type": "group", "mid_block_add_attention": True,
    "lookup_from_codebook": False, "force_upcast": False,
}  # fmt: skip
# Options that leave the network's function alone (sizes for pipelines, the precision of a step),
# and those that their reader looks at itself.
_FREE = {
    "sample_size", "upcast_attention", "force_upcast", "addition_embed_type_num_heads",
    "lookup_from_codebook",  # how code indices are decoded, which latents are not
}  # fmt: skip
_READ_ELSEWHERE = {
    "down_block_types", "up_block_types", "addition_embed_type", "addition_time_embed_dim",
    "resnet_time_scale_shift",
    "scaling_factor", "shift_factor", "latents_mean", "latents_std",
    "num_vq_embeddings", "vq_embed_dim",
}  # fmt: skip
# What the values that are used must be: they reach our constructors, and experiments written here.
_FLAGS = {"use_linear_projection", "mid_block_add_attention"}
_KINDS: dict[str, Kind] = {
    **{key: FLAG if key in _FLAGS else COUNTS for key in THEIR_NAME.values()},
    "projection_class_embeddings_input_dim": optional(COUNT),
    "cross_attention_dim": optional(COUNTS),
    "addition_embed_type": optional(TEXT), "addition_time_embed_dim": optional(COUNT),
    "addition_embed_type_num_heads": optional(COUNT), "resnet_time_scale_shift": TEXT,
    "down_block_types": TEXTS, "up_block_types": TEXTS,
    "num_vq_embeddings": COUNT, "vq_embed_dim": optional(COUNT),
    "scaling_factor": POSITIVE, "shift_factor": optional(NUMBER),
    "latents_mean": optional(NUMBERS), "latents_std": optional(NUMBERS),
}  # fmt: skip


def listed(names: Collection[str]) -> str:
    """Names for a sentence, in a fixed order."""
    return ", ".join(sorted(names))


def unsupported(file: Path, option: str, found: Any, allowed: Any) -> ValueError:
    """The error for an option that our networks do not have."""
    return ValueError(
        f"{file}: {option} = {found!r} is not supported; only {allowed!r} is. This model computes "
        "something that our network does not, so it cannot be read."
    )


def to_theirs(ours: Mapping[str, Any], blocks: Blocks) -> dict[str, Any]:
    """Our constructor's arguments as the options of diffusers."""
    (down_plain, down_attention), (up_plain, up_attention) = blocks
    attention = list(ours["attention"])
    theirs = {
        theirs: list(ours[name]) if name in _PER_LEVEL else ours[name]
        for name, theirs in THEIR_NAME.items()
        if name in ours
    }
    theirs["down_block_types"] = [down_attention if a else down_plain for a in attention]
    theirs["up_block_types"] = [up_attention if a else up_plain for a in reversed(attention)]
    return theirs


def checked(
    found: Mapping[str, Any], file: Path, *, class_name: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """All of diffusers' options of a config file; ValueError where it asks for what we lack."""
    if (name := found.get("_class_name", class_name)) != class_name:
        raise ValueError(f"{file} describes a {name!r}; only {class_name} can be read here.")
    options = {key: value for key, value in found.items() if not key.startswith("_")}
    if unknown := options.keys() - defaults.keys():
        raise ValueError(
            f"{file}: unknown option {listed(unknown)}; it may change what the network computes, "
            "so the model cannot be read."
        )
    require(file, options, _KINDS)
    translated = set(THEIR_NAME.values())
    for key, value in options.items():
        if key in _FREE | _READ_ELSEWHERE | translated:
            continue
        if value != defaults[key]:
            raise unsupported(file, key, value, defaults[key])
    return {**defaults, **options}


def to_ours(theirs: Mapping[str, Any], blocks: Blocks, file: Path) -> dict[str, Any]:
    """The options of diffusers as arguments of our constructor; ValueError where none fit."""
    (down_plain, down_attention), (up_plain, up_attention) = blocks
    down, up = list(theirs["down_block_types"]), list(theirs["up_block_types"])
    for block in down:
        if block not in (down_plain, down_attention):
            raise unsupported(file, "down_block_types", block, f"{down_plain}, {down_attention}")
    attention = [block == down_attention for block in down]
    mirrored = [up_attention if a else up_plain for a in reversed(attention)]
    if up != mirrored:
        raise unsupported(file, "up_block_types", up, mirrored)
    names = {name: key for name, key in THEIR_NAME.items() if key in theirs}
    ours: dict[str, Any] = {"attention": attention}
    for name, key in names.items():
        if name in _PER_LEVEL:
            ours[name] = _per_level(theirs[key], len(down), file, key)
        else:
            ours[name] = _uniform(theirs[key], file, key)
    return ours


def _per_level(value: Any, levels: int, file: Path, key: str) -> list[int]:
    """One number for all levels, or one for each."""
    if isinstance(value, int):
        return [value] * levels
    if (
        not isinstance(value, Sequence)
        or len(value) != levels
        or not all(isinstance(entry, int) for entry in value)
    ):
        raise unsupported(file, key, value, f"one number for each of {levels} levels")
    return list(value)


def _uniform(value: Any, file: Path, key: str) -> Any:
    """A number; theirs may also be a list with one per level, ours may not."""
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1:
        raise unsupported(file, key, value, "the same number at every level")
    return value[0]
