"""The settings of a model in CompVis' single file, as far as its tensors show them.

Such a file holds no settings. Widths, depths and attention follow from the shapes; what no shape
shows (heads, groups, activation, latent scale) is taken to be that of the published models.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ldm.interop.diffusers_unet import SIZE_EMBEDDING_DIM
from ldm.interop.transformers import PREFIX

HEAD_DIM = 64  # of text towers, and of UNets with linear projections (from Stable Diffusion 2 on)
_HEADS = 8  # of UNets with convolutional projections (Stable Diffusion 1)

State = Mapping[str, Tensor]


def unet_config(state: State, *, size_px: int) -> dict[str, Any]:
    """Of the UNet, in diffusers' words; names are without their prefix."""
    levels: list[tuple[int, bool, int, int]] = []  # width, attention, depth, residual blocks
    index, width, attention, depth, count = 1, 0, False, 1, 0
    while True:
        resnet = f"input_blocks.{index}.0.in_layers.2.weight"
        if resnet in state:
            width, count = state[resnet].shape[0], count + 1
            if f"input_blocks.{index}.1.proj_in.weight" in state:
                attention, depth = True, _count(state, f"input_blocks.{index}.1.transformer_blocks")
        else:
            levels.append((width, attention, depth, count))
            if f"input_blocks.{index}.0.op.weight" not in state:
                break
            attention, depth, count = False, 1, 0
        index += 1
    widths, attends, depths, counts = map(list, zip(*levels, strict=True))
    depths[-1] = _count(state, "middle_block.1.transformer_blocks")  # ours is the last level's
    projection = _need(state, "middle_block.1.proj_in.weight")
    linear = projection.dim() == 2
    vector: dict[str, Any] = {}
    if (label := state.get("label_emb.0.0.weight")) is not None:
        vector["projection_class_embeddings_input_dim"] = label.shape[1]
        vector["addition_embed_type"] = "text_time"
        vector["addition_time_embed_dim"] = SIZE_EMBEDDING_DIM
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": size_px // 8,
        "in_channels": _need(state, "input_blocks.0.0.weight").shape[1],
        "out_channels": _need(state, "out.2.weight").shape[0],
        "block_out_channels": widths,
        "layers_per_block": counts,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "transformer_layers_per_block": depths,
        "attention_head_dim": [max(1, w // HEAD_DIM) if linear else _HEADS for w in widths],
        "cross_attention_dim": _need(
            state, "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
        ).shape[1],
        "use_linear_projection": linear,
        **vector,
    }


def autoencoder_config(state: State, *, size_px: int, scaling_factor: float) -> dict[str, Any]:
    """Of the autoencoder, likewise."""
    levels = range(_count(state, "encoder.down"))
    attends = [f"encoder.down.{i}.attn.0.norm.weight" in state for i in levels]
    down = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")
    up = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
    channels = _need(state, "encoder.conv_in.weight").shape[1]
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": size_px,
        "in_channels": channels,
        "out_channels": channels,
        "latent_channels": _need(state, "post_quant_conv.weight").shape[0],
        "block_out_channels": [
            _need(state, f"encoder.down.{i}.block.0.conv1.weight").shape[0] for i in levels
        ],
        "layers_per_block": _count(state, "encoder.down.0.block"),
        "down_block_types": [down[a] for a in attends],
        "up_block_types": [up[a] for a in reversed(attends)],
        "mid_block_add_attention": "encoder.mid.attn_1.norm.weight" in state,
        "scaling_factor": scaling_factor,
    }


def text_config(state: State, *, is_openai: bool) -> dict[str, Any]:
    """Of a text tower, in transformers' words and from its names there.

    OpenAI's have an activation of their own.
    """
    state = {name.removeprefix(PREFIX): value for name, value in state.items()}
    vocabulary, width = _need(state, "embeddings.token_embedding.weight").shape
    projection = state.get("text_projection.weight")
    return {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _need(state, "encoder.layers.0.mlp.fc1.weight").shape[0],
        "projection_dim": width if projection is None else projection.shape[0],
        "num_hidden_layers": _count(state, "encoder.layers"),
        "num_attention_heads": max(1, width // HEAD_DIM),
        "max_position_embeddings": _need(state, "embeddings.position_embedding.weight").shape[0],
        "hidden_act": "quick_gelu" if is_openai else "gelu",
    }


def _need(state: State, name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"the tensor {name} is missing, by which the network's shape is known.")
    return state[name]


def _count(state: State, prefix: str) -> int:
    """How many numbered modules there are below a name."""
    start = f"{prefix}."
    return len({k[len(start) :].split(".")[0] for k in state if k.startswith(start)})
