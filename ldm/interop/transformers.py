"""A text tower as the CLIPTextModel of transformers: config.json and model.safetensors.

The map of names is exact: the hidden states after the final layer norm agree to rounding. One with
a projection is a CLIPTextModelWithProjection.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ldm.interop.config_values import COUNT, POSITIVE, TEXT, Kind, require
from ldm.interop.diffusers_files import CONFIG, find, read
from ldm.interop.weight_files import read_files
from ldm.interop.weights_fit import require_fit
from ldm.manifest import atomic, write_json
from ldm.text.clip import ClipText, fill
from ldm.text.clip_text_tower import ClipTextTower
from ldm.text.tokenizer import END_OF_TEXT, START_OF_TEXT, VOCABULARY_SIZE

WEIGHTS = "model.safetensors"
# transformers from 5.6 on saves the names without it and reads both; older ones expect it.
PREFIX = "text_model."

# Settings of open_clip's text_cfg by which the hidden states depend, where CLIPTextModel has only
# this value. Others concern the pooled vector alone.
_FIXED: dict[str, Any] = {
    "hf_model_name": None, "tokenizer_kwargs": None, "ls_init_value": None, "embed_cls": False,
    "no_causal_mask": False, "act_kwargs": None, "norm_kwargs": None, "block_type": None,
    "qk_norm": False, "scaled_cosine_attn": False, "scale_heads": False, "scale_attn_inner": False,
    "scale_attn": False, "scale_fc": False,
}  # fmt: skip
# What a config.json may leave out, with transformers' default; our name, or the only value.
_DEFAULTS: dict[str, Any] = {
    "max_position_embeddings": 77, "vocab_size": 49408, "hidden_size": 512,
    "num_attention_heads": 8, "num_hidden_layers": 12, "intermediate_size": 2048,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_KINDS = {
    **{key: COUNT for key, default in _DEFAULTS.items() if isinstance(default, int)},
    "hidden_act": TEXT, "layer_norm_eps": POSITIVE, "model_type": TEXT,
}  # fmt: skip
# open_clip's names -> transformers', outside of the attention's input, which is split in three.
_NAMES = (
    ("token_embedding.weight", "embeddings.token_embedding.weight"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_final.", "final_layer_norm."),
    ("transformer.resblocks.", "encoder.layers."),
    (".attn.out_proj.", ".self_attn.out_proj."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)
_IN_PROJECTION = ".attn.in_proj_"
_PARTS = tuple(f".self_attn.{part}_proj." for part in "qkv")
_PROJECTION = "text_projection.weight"  # (E, D), outside of the prefix; ours is (D, E)


def to_theirs(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a ``ClipText`` under CLIPTextModel's names, without the prefix."""
    theirs: dict[str, Tensor] = {}
    for name, value in state.items():
        for ours, their in _NAMES:
            name = name.replace(ours, their)
        if _IN_PROJECTION in name:
            for part, third in zip(_PARTS, value.chunk(3), strict=True):
                theirs[name.replace(_IN_PROJECTION, part)] = third
        else:
            theirs[name] = value
    return theirs


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``to_theirs``; names that are not theirs stay as they are."""
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if any(part in name for part in _PARTS[1:]):
            continue  # joined with the queries
        if _PARTS[0] in name:
            parts = [
                state[found] for part in _PARTS if (found := name.replace(_PARTS[0], part)) in state
            ]
            name, value = name.replace(_PARTS[0], _IN_PROJECTION), torch.cat(parts)
        for our, their in _NAMES:
            name = name.replace(their, our)
        ours[name] = value
    return ours


def text_config(text_encoder: ClipText, *, projection_dim: int | None = None) -> dict[str, Any]:
    """The config.json of a text tower; ValueError where CLIPTextModel has no such setting."""
    text = text_encoder.config["text_cfg"]
    with_projection = "" if projection_dim is None else "WithProjection"
    for name, allowed in _FIXED.items():
        if text.get(name, allowed) != allowed:
            raise ValueError(
                f"text_encoder.text.{name}={text[name]!r} has no counterpart in transformers' "
                f"CLIPTextModel, which knows only {allowed!r}; this text tower cannot be exported."
            )
    return {
        "architectures": [f"CLIPTextModel{with_projection}"],
        "model_type": "clip_text_model",
        "vocab_size": text["vocab_size"],
        "hidden_size": text["width"],
        "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4.0)),
        "projection_dim": projection_dim or text_encoder.config.get("embed_dim", text["width"]),
        "num_hidden_layers": text["layers"] - _blocks_unused(text_encoder, projection_dim),
        "num_attention_heads": text["heads"],
        "max_position_embeddings": text["context_length"],
        "hidden_act": "quick_gelu" if text_encoder.config["quick_gelu"] else "gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": START_OF_TEXT,
        "eos_token_id": END_OF_TEXT,
        "pad_token_id": text_encoder.tokenize.pad_id,
        "dtype": "float32",
    }


def write_text_encoder(
    text_encoder: ClipText, folder: str | Path, *, projection: Tensor | None = None
) -> None:
    """Write a text tower as ``CLIPTextModel.from_pretrained(folder)`` reads it.

    A tower whose penultimate states are used loses its last block, as that model gives the last.
    With a ``projection`` (D, E) it is whole, and one for CLIPTextModelWithProjection.
    """
    folder = Path(folder)
    projection_dim = None if projection is None else projection.shape[1]
    config = text_config(text_encoder, projection_dim=projection_dim)
    unused = f"encoder.layers.{config['num_hidden_layers']}."
    state = {
        PREFIX + name: value.detach().cpu().clone().contiguous()  # thirds share their memory
        for name, value in to_theirs(text_encoder.state_dict()).items()
        if not name.startswith(unused)
    }
    if projection is not None:
        state[_PROJECTION] = projection.detach().cpu().T.contiguous()
    with atomic(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    write_json(folder / CONFIG, config)


def read_text_encoder(folder: str | Path, *, pad_id: int) -> ClipTextTower:
    """The text tower of a CLIPTextModel's folder, in fp32 on the CPU.

    ``pad_id`` is its tokenizer's, as the pad in config.json is often wrong.

    ValueError when a file is missing or damaged, or a setting is not supported.
    """
    file = find(folder, "text_encoder", CONFIG, made_by="ldm export format=diffusers")
    return text_tower(read(file), read_files(file.parent, WEIGHTS), pad_id=pad_id, origin=file)


def text_settings(config: Mapping[str, Any], *, origin: Path) -> dict[str, Any]:
    """The settings of a CLIP text tower, complete; ValueError where one is not supported."""
    found = tower_settings(config, _DEFAULTS, _KINDS, origin=origin)
    if found["vocab_size"] < VOCABULARY_SIZE:
        raise ValueError(
            f"{origin}: vocab_size = {found['vocab_size']} is smaller than CLIP's vocabulary of "
            f"{VOCABULARY_SIZE}, so its captions have another tokenizer, which cannot be read."
        )
    return found


def tower_settings(
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    kinds: Mapping[str, Kind],
    *,
    origin: Path,
) -> dict[str, Any]:
    """The settings named in ``defaults``, of a tower of either kind; ValueError likewise."""
    require(origin, config, kinds)
    found = {**defaults, **{key: value for key, value in config.items() if key in defaults}}
    allowed = {"hidden_act": ("gelu", "quick_gelu"), "layer_norm_eps": (1e-5,)}
    for key, values in allowed.items():
        if found[key] not in values:
            raise ValueError(
                f"{origin}: {key} = {found[key]!r} is not supported; only "
                f"{' or '.join(map(repr, values))} is. The tower cannot be read."
            )
    width, heads = found["hidden_size"], found["num_attention_heads"]
    if width % heads:
        raise ValueError(
            f"{origin}: hidden_size = {width} does not divide into {heads} heads "
            "(num_attention_heads). Mend the file, or copy it again."
        )
    return found


def text_tower(
    config: Mapping[str, Any], state: Mapping[str, Tensor], *, pad_id: int, origin: Path
) -> ClipTextTower:
    """A text tower from the config and the weights (with or without prefix) of a CLIPTextModel.

    ``origin`` is the file that errors speak of.
    """
    if (kind := config.get("model_type", "clip_text_model")) != "clip_text_model":
        raise ValueError(f"{origin} describes a {kind!r}; only a clip_text_model can be read here.")
    found = text_settings(config, origin=origin)
    width, heads = found["hidden_size"], found["num_attention_heads"]
    plain = {name.removeprefix(PREFIX): value for name, value in state.items()}
    plain.pop("embeddings.position_ids", None)  # 0, 1, 2, ... in older files
    projection = plain.get(_PROJECTION)
    with torch.device("meta"):
        tower = ClipTextTower(
            context_length=found["max_position_embeddings"],
            vocab_size=found["vocab_size"],
            width=width,
            heads=heads,
            layers=found["num_hidden_layers"],
            mlp_ratio=found["intermediate_size"] / width,
            embed_dim=None if projection is None else projection.shape[0],
            quick_gelu=found["hidden_act"] == "quick_gelu",
            pad_id=pad_id,
        )
    expected = to_theirs(tower.model.state_dict())
    if projection is not None:
        expected[_PROJECTION] = expected.pop("text_projection").T
    require_fit(plain, expected, origin=str(origin.parent))
    ours = to_ours(plain)
    if projection is not None:
        ours["text_projection"] = ours.pop(_PROJECTION).T.contiguous()
    fill(tower.model, ours)
    return tower


def _blocks_unused(text_encoder: ClipText, projection_dim: int | None) -> int:
    """How many of its last blocks a tower's tokens do without; a projection needs them all."""
    return int(projection_dim is None and text_encoder.towers.states == "penultimate")
