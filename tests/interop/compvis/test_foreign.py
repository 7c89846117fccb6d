"""Files that hold no whole model are told apart by their tensors' names."""

import re

import pytest

from ldm.interop.compvis.foreign import kind_of_file

FILES = {
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": "a LoRA, .* fused into it",
    "unet.down_blocks.0.attentions.0.to_q.lora_A.weight": "a LoRA",
    "lycoris_x.hada_w1_a": "a LoRA",
    "control_model.input_blocks.0.0.weight": "a ControlNet",
    "emb_params": "a textual inversion",
    "clip_g": "a textual inversion",
    "double_blocks.0.img_attn.qkv.weight": "only Stable Diffusion 1, 2 and XL can be read",
    "model.diffusion_model.joint_blocks.0.x": "only Stable Diffusion 1, 2 and XL can be read",
    "down_blocks.0.resnets.0.conv1.weight": "a UNet of a folder .* model_index.json",
    "encoder.down_blocks.0.resnets.0.conv1.weight": "an autoencoder of a folder",
    "text_model.encoder.layers.0.mlp.fc1.bias": "a text encoder of a folder",
    "encoder.down.0.block.0.conv1.weight": "an autoencoder by itself",
    "diffusion_model.input_blocks.0.0.weight": "a UNet by itself",
    "transformer.resblocks.0.ln_1.bias": "a text encoder by itself",
}


@pytest.mark.parametrize("name", FILES)
def test_the_kind_is_named(name):
    assert re.search(FILES[name], kind_of_file([name]) or "")


def test_what_is_not_known_has_no_kind():
    assert kind_of_file(["model.diffusion_model.out.2.bias", "first_stage_model.x"]) is None
