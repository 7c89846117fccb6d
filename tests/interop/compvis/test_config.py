"""The settings of the published networks, at full size, follow from their tensors alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ldm.autoencoders.regularizers import KL
from ldm.interop.compvis import text
from ldm.interop.compvis.config import autoencoder_config, text_config, unet_config
from ldm.interop.compvis.layouts import REFINER, SD1, SD2, SDXL, Layout, layout_for, layout_of_file
from ldm.interop.compvis.names import (
    autoencoder_table,
    convolutional,
    renamed,
    unet_table,
    upsamplers,
)
from ldm.interop.diffusers_autoencoder import empty_autoencoder
from ldm.interop.diffusers_unet import empty_unet
from ldm.manifest import write_json
from tests.shipped import shipped


def on_file(network: Any, table: dict[str, str]) -> dict[str, Tensor]:
    """A network's tensors, which exist in name only, by the published names."""
    found, unknown = renamed(network.state_dict(), table)
    assert not unknown
    return found


@pytest.mark.parametrize("name", ["unet_sd1", "unet_sd1_inpaint", "unet_sd2", "unet_sdxl",
                                  "unet_sdxl_refiner"])  # fmt: skip
def test_unets(name, tmp_path):
    with torch.device("meta"):
        network = shipped("backbone", name)
    ours = network.config
    levels, attention = len(ours["channels"]), ours["attention"]
    table = unet_table(levels, 2) | upsamplers(levels, 2, attention[::-1])
    config = unet_config(on_file(network, table), size_px=512)
    assert config["sample_size"] == 64
    write_json(tmp_path / "config.json", config)
    found = empty_unet(tmp_path)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    assert {name: value.shape for name, value in found.state_dict().items()} == shapes
    for level, attends in enumerate(attention):  # the rest of them is without effect
        if attends:
            assert found.config["heads"][level] == ours["heads"][level]


def test_the_autoencoder(tmp_path):
    with torch.device("meta"):
        network = shipped("autoencoder", "kl_f8", regularizer=KL())
    state = convolutional(on_file(network, autoencoder_table(4, 2)))
    config = autoencoder_config(state, size_px=1024, scaling_factor=0.13025)
    write_json(tmp_path / "config.json", config)
    assert empty_autoencoder(tmp_path).config == network.config
    assert config["scaling_factor"] == 0.13025 and config["sample_size"] == 1024


TOWERS = {"clip_vit_l14": 12, "openclip_vit_h14": 16, "openclip_vit_bigg14": 20}


@pytest.mark.parametrize("name", TOWERS)
def test_text_towers_have_heads_of_64(name):
    from ldm.text.clip import ClipText

    with torch.device("meta"):
        tower = ClipText(shipped("text_encoder", name))
    config = text_config(text.to_theirs(tower.state_dict()), is_openai="vit_l" in name)
    ours = tower.config["text_cfg"]
    assert config["num_attention_heads"] == ours["heads"] == TOWERS[name]
    assert config["num_hidden_layers"] == ours["layers"]
    assert config["intermediate_size"] == 4 * ours["width"]
    assert config["hidden_act"] == ("quick_gelu" if name == "clip_vit_l14" else "gelu")


KINDS: dict[str, tuple[Layout, list[str], bool]] = {
    "cond_stage_model.transformer.text_model.x": (SD1, ["text_encoder"], False),
    "cond_stage_model.model.ln_final.bias": (SD2, ["text_encoder"], True),
    "conditioner.embedders.1.model.x": (SDXL, ["text_encoder", "text_encoder_2"], True),
    "conditioner.embedders.0.model.x": (REFINER, ["text_encoder_2"], True),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_follows_from_the_text_towers_and_the_unet(name):
    layout, parts, linear = KINDS[name]
    names = [name, "conditioner.embedders.0.transformer.text_model.x"]
    assert layout_of_file(names if layout is SDXL else [name]) is layout
    assert layout_for(parts, linear_projection=linear) is layout
    assert [tower.part for tower in layout.text] == parts
