"""Weights in one file, in several, in variants: those that diffusers and transformers write."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
import transformers

from ldm.interop.diffusers import read_unet, write_unet
from ldm.interop.weight_files import read_files, weight_files, what_was_chosen
from tests.interop.conftest import UNET, shipped

NAME = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> diffusers.UNet2DConditionModel:
    folder = tmp_path_factory.mktemp("unet")
    write_unet(shipped("backbone", "unet_sd1", **UNET), folder)
    return diffusers.UNet2DConditionModel.from_pretrained(folder)


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "30KB"}], ids=["one", "several"])
def test_a_variant_alone_is_taken_and_said(theirs, shards, tmp_path: Path):
    half = diffusers.UNet2DConditionModel.from_config(theirs.config).half()
    half.load_state_dict(theirs.state_dict())
    half.save_pretrained(tmp_path, variant="fp16", **shards)
    assert (len(weight_files(tmp_path, NAME)) > 1) == bool(shards)
    read = read_unet(tmp_path).state_dict()
    expected = diffusers.UNet2DConditionModel.from_pretrained(tmp_path, variant="fp16")
    for name, value in expected.state_dict().items():
        assert torch.equal(read[name], value.float()), name
    said = what_was_chosen(tmp_path, NAME) or ""
    assert said.startswith("diffusion_pytorch_model.fp16") and f"there is no {NAME}" in said


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "30KB"}], ids=["one", "several"])
def test_the_plain_file_goes_before_its_variants(theirs, shards, tmp_path: Path):
    theirs.save_pretrained(tmp_path, **shards)
    assert what_was_chosen(tmp_path, NAME) is None
    zeros = diffusers.UNet2DConditionModel.from_config(theirs.config)
    zeros.load_state_dict({k: torch.zeros_like(v) for k, v in zeros.state_dict().items()})
    zeros.save_pretrained(tmp_path, variant="non_ema")
    zeros.save_pretrained(tmp_path, variant="fp16", max_shard_size="30KB")
    read = read_unet(tmp_path).state_dict()
    for name, value in theirs.state_dict().items():
        assert torch.equal(read[name], value), name
    said = what_was_chosen(tmp_path, NAME) or ""
    assert said.startswith(f"{NAME} was taken, and diffusion_pytorch_model.non_ema.safetensors, ")
    assert said.endswith(f"{NAME}.index.fp16.json beside it was not")


def test_text_towers_have_variants_too(tmp_path: Path):
    config = transformers.CLIPTextConfig(
        hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=3,
        vocab_size=100,
    )  # fmt: skip
    tower = transformers.CLIPTextModel(config)
    for shards in ({}, {"max_shard_size": "8KB"}):
        folder = tmp_path / str(len(shards))
        tower.save_pretrained(folder, variant="fp16", **shards)
        found = read_files(folder, "model.safetensors")
        assert found.keys() == tower.state_dict().keys()
        assert all(torch.equal(found[k], v) for k, v in tower.state_dict().items())


def test_what_is_unclear_or_missing_says_what_to_do(theirs, tmp_path: Path):
    theirs.save_pretrained(tmp_path, variant="fp16")
    theirs.save_pretrained(tmp_path, variant="bf16")
    with pytest.raises(
        ValueError, match=r"bf16\.safetensors, .*fp16\.safetensors\); leave the one"
    ):
        read_unet(tmp_path)
    (tmp_path / "diffusion_pytorch_model.bf16.safetensors").unlink()
    index = tmp_path / f"{NAME}.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../outside.safetensors"}}))
    with pytest.raises(ValueError, match=rf"{tmp_path}/outside\.safetensors is missing"):
        read_unet(tmp_path)
    for damaged in ("[", "[]", "{}", '{"weight_map": 3}'):
        index.write_text(damaged)
        with pytest.raises(ValueError, match="is damaged: it has no weight_map"):
            read_unet(tmp_path)


def test_pickled_weights_are_not_opened(theirs, tmp_path: Path):
    theirs.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match=r"(?s)model\.bin beside it is a pickle.*save_pretrained"):
        read_unet(tmp_path)
