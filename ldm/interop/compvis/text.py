"""Text towers between diffusers' folder, spelt as transformers does, and a single file."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ldm.interop.compvis.layouts import TextPart
from ldm.interop.transformers import PREFIX, to_ours, to_theirs

PROJECTION = "text_projection.weight"  # in the folder, transposed
_BLOCKS = "transformer.resblocks."
# Beside what the tokens are computed from: constants, and what only CLIP's own training used.
_UNUSED = ("logit_scale", "text_projection", PROJECTION, "embeddings.position_ids", "attn_mask")
_LOGIT_SCALE = math.log(1.0 / 0.07)  # where CLIP's training begins


def to_folder(tensors: Mapping[str, Tensor], text: TextPart) -> dict[str, Tensor]:
    """The weights of a CLIPTextModel(WithProjection); names come without the file's prefix.

    ValueError where the tower lacks its projection.
    """
    plain = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    projection = plain.get("text_projection")
    plain = {name: value for name, value in plain.items() if name not in _UNUSED}
    if text.has_unused_block:
        last = f"{_BLOCKS}{num_blocks(plain) - 1}."
        plain = {name: value for name, value in plain.items() if not name.startswith(last)}
    state = {PREFIX + k: v for k, v in (to_theirs(plain) if text.is_open_clip else plain).items()}
    if text.has_projection:
        if projection is None:
            raise ValueError(f"the tensor {text.prefix}text_projection is missing.")
        state[PROJECTION] = projection.T
    return state


def to_file(state: Mapping[str, Tensor], text: TextPart) -> dict[str, Tensor]:
    """The inverse, without the prefix; what readers look for and nobody uses is made up."""
    plain = {name.removeprefix(PREFIX): value for name, value in state.items()}
    tower = {name: value for name, value in plain.items() if name not in _UNUSED}
    if not text.is_open_clip:
        return {PREFIX + name: value for name, value in tower.items()}
    tensors = to_ours(tower)
    if text.has_unused_block:
        tensors |= _idle_block(tensors)
    width = len(tensors["ln_final.weight"])
    projection = plain[PROJECTION].T if text.has_projection else torch.eye(width)
    return tensors | {"text_projection": projection, "logit_scale": torch.tensor(_LOGIT_SCALE)}


def num_blocks(tensors: Mapping[str, Tensor]) -> int:
    """Of a tower in open_clip's names."""
    return len({k.removeprefix(_BLOCKS).split(".")[0] for k in tensors if k.startswith(_BLOCKS)})


def _idle_block(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One block more, which gives what it is given."""
    count = num_blocks(tensors)
    last, new = f"{_BLOCKS}{count - 1}.", f"{_BLOCKS}{count}."
    return {
        name.replace(last, new): (
            torch.zeros_like(value) if ".out_proj." in name or ".c_proj." in name else value.clone()
        )
        for name, value in tensors.items()
        if name.startswith(last)
    }
