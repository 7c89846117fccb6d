"""The names of parameters in the single file of CompVis' code, module by module, and diffusers'.

A table maps a module's name in diffusers to its name there; what follows it (weight, bias, the
inside of transformers) is spelt alike. Read backwards, it maps the other way.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

Table = dict[str, str]

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_AUTOENCODER_RESNET = {
    "norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2",
    "conv_shortcut": "nin_shortcut",
}  # fmt: skip
_AUTOENCODER_ATTENTION = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
}  # fmt: skip


def unet_table(levels: int, layers: int) -> Table:
    """Of a UNet with ``layers`` residual blocks per level; attention where there is any."""
    table = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.attentions.0": "middle_block.1",
    }
    for j, place in ((0, 0), (1, 2)):
        table |= _inside(f"mid_block.resnets.{j}", f"middle_block.{place}", _RESNET)
    for level in range(levels):
        first = 1 + level * (layers + 1)
        for j in range(layers):
            block = f"input_blocks.{first + j}"
            table |= _inside(f"down_blocks.{level}.resnets.{j}", f"{block}.0", _RESNET)
            table[f"down_blocks.{level}.attentions.{j}"] = f"{block}.1"
        table[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{first + layers}.0.op"
        for j in range(layers + 1):
            block = f"output_blocks.{level * (layers + 1) + j}"
            table |= _inside(f"up_blocks.{level}.resnets.{j}", f"{block}.0", _RESNET)
            table[f"up_blocks.{level}.attentions.{j}"] = f"{block}.1"
    return table


def upsamplers(levels: int, layers: int, attention: Iterable[bool]) -> Table:
    """Of the same UNet: a level's upsampler follows its last transformer, if it has one.

    ``attention`` is per level on the way up, the coarsest first.
    """
    return {
        f"up_blocks.{level}.upsamplers.0.conv": (
            f"output_blocks.{level * (layers + 1) + layers}.{2 if attends else 1}.conv"
        )
        for level, attends in enumerate(attention)
        if level < levels - 1
    }


def autoencoder_table(levels: int, layers: int) -> Table:
    """Of an autoencoder; the decoder there counts its levels from the finest."""
    table = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for side, blocks, theirs, extra in (
        ("encoder", "down_blocks", "down", 0),
        ("decoder", "up_blocks", "up", 1),
    ):
        table[f"{side}.conv_in"] = f"{side}.conv_in"
        table[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        table[f"{side}.conv_out"] = f"{side}.conv_out"
        middle, resampler = f"{side}.mid_block", f"{theirs}samplers.0.conv"
        table |= _inside(f"{middle}.attentions.0", f"{side}.mid.attn_1", _AUTOENCODER_ATTENTION)
        for j in range(2):
            name = f"{side}.mid.block_{j + 1}"
            table |= _inside(f"{middle}.resnets.{j}", name, _AUTOENCODER_RESNET)
        for level in range(levels):
            ours = f"{side}.{blocks}.{level}"
            other = f"{side}.{theirs}.{levels - 1 - level if extra else level}"
            for j in range(layers + extra):
                table |= _inside(f"{ours}.resnets.{j}", f"{other}.block.{j}", _AUTOENCODER_RESNET)
                attention = (f"{ours}.attentions.{j}", f"{other}.attn.{j}")
                table |= _inside(*attention, _AUTOENCODER_ATTENTION)
            table[f"{ours}.{resampler}"] = f"{other}.{theirs}sample.conv"
    return table


def renamed(state: Mapping[str, Tensor], table: Table) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the table's names, and the names for which it has none."""
    found, unknown = {}, []
    for name, value in state.items():
        parts = name.split(".")
        ends = range(len(parts) - 1, 0, -1)  # the longest module's name first
        match = next((i for i in ends if ".".join(parts[:i]) in table), None)
        if match is None:
            unknown.append(name)
        else:
            found[".".join([table[".".join(parts[:match])], *parts[match:]])] = value
    return found, unknown


def inverted(table: Table) -> Table:
    """The same table, the other way."""
    inverse = {theirs: ours for ours, theirs in table.items()}
    assert len(inverse) == len(table)
    return inverse


def convolutional(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An autoencoder's attention as 1x1 convolutions, as this layout has it."""
    return {
        name: value[:, :, None, None] if _is_attention(name) and value.dim() == 2 else value
        for name, value in state.items()
    }


def linear(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``convolutional``; a kernel larger than 1x1 stays, and will not fit."""
    return {
        name: value[:, :, 0, 0] if _is_attention(name) and value.shape[2:] == (1, 1) else value
        for name, value in state.items()
    }


def _is_attention(name: str) -> bool:
    return ".attn_1." in name or ".attn." in name


def _inside(ours: str, theirs: str, names: Table) -> Table:
    return {f"{ours}.{name}": f"{theirs}.{other}" for name, other in names.items()}
