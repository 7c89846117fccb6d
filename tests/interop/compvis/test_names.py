"""The names of the published layout, counted at full size and checked one by one where odd."""

import pytest
import torch
from omegaconf import OmegaConf

from ldm.apps.build import build
from ldm.apps.config_files import config_root
from ldm.autoencoders.regularizers import KL
from ldm.interop.compvis.names import (
    autoencoder_table,
    convolutional,
    inverted,
    linear,
    renamed,
    unet_table,
    upsamplers,
)


def names_of(group, name, table, **more):
    """The published names of a shipped network's tensors, which exist in name only."""
    with torch.device("meta"):
        network = build(OmegaConf.load(config_root() / group / f"{name}.yaml"), **more)
    state = network.state_dict()
    found, unknown = renamed(state, table)
    assert not unknown and len(found) == len(state)
    back, unknown = renamed(found, inverted(table))
    assert not unknown and list(back) == list(state)
    return found


def test_stable_diffusion_1_has_its_686_tensors():
    table = unet_table(4, 2) | upsamplers(4, 2, [False, True, True, True])
    found = names_of("backbone", "unet_sd1", table)
    assert len(found) == 686
    # The first is input_blocks.0, every level's last but the lowest a downsampler, 12 blocks each.
    blocks = {name.split(".")[1] for name in found if name.startswith("input_blocks.")}
    assert blocks == {str(i) for i in range(12)}
    for name, shape in {
        "input_blocks.0.0.weight": (320, 4, 3, 3),
        "input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        "middle_block.1.proj_in.weight": (1280, 1280, 1, 1),
        "output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),  # no transformer at this level
        "output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),  # after the transformer
        "output_blocks.11.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "time_embed.2.weight": (1280, 1280),
        "out.2.weight": (4, 320, 3, 3),
    }.items():
        assert found[name].shape == shape, name


def test_stable_diffusion_xl_has_its_1680_tensors():
    table = unet_table(3, 2) | upsamplers(3, 2, [True, True, False])
    found = names_of("backbone", "unet_sdxl", table)
    assert len(found) == 1680
    for name, shape in {
        "label_emb.0.0.weight": (1280, 2816),
        "label_emb.0.2.bias": (1280,),
        "input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight": (1280, 2048),
        "middle_block.1.transformer_blocks.9.norm3.bias": (1280,),
        "output_blocks.2.2.conv.weight": (1280, 1280, 3, 3),
        "output_blocks.5.2.conv.weight": (640, 640, 3, 3),
        "output_blocks.8.0.skip_connection.weight": (320, 640, 1, 1),
    }.items():
        assert found[name].shape == shape, name


def test_the_autoencoder_has_its_248_tensors():
    found = names_of("autoencoder", "kl_f8", autoencoder_table(4, 2), regularizer=KL())
    sides = [sum(name.startswith(side) for name in found) for side in ("encoder.", "decoder.")]
    assert sides == [106, 138] and len(found) == 248
    for name, shape in {
        "encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
        "encoder.down.2.downsample.conv.weight": (512, 512, 3, 3),
        "decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),  # the lowest resolution, run first
        "decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "decoder.norm_out.weight": (128,),
        "quant_conv.weight": (8, 8, 1, 1),
    }.items():
        assert found[name].shape == shape, name
    squares = convolutional(found)
    assert squares["encoder.mid.attn_1.q.weight"].shape == (512, 512, 1, 1)
    assert squares["encoder.mid.attn_1.norm.weight"].shape == (512,)
    assert {k: v.shape for k, v in linear(squares).items()} == {
        k: v.shape for k, v in found.items()
    }


@pytest.mark.parametrize("name", ["encoder.down.9.block.0.conv1.weight", "loss.logvar", "weight"])
def test_a_name_without_a_place_is_reported(name):
    found, unknown = renamed({name: torch.zeros(1)}, inverted(autoencoder_table(4, 2)))
    assert not found and unknown == [name]
