"""Our UNet is diffusers': same names, outputs and gradients, folders that go both ways."""

import inspect
import json
from pathlib import Path

import diffusers
import pytest
import torch
from torch import Tensor, nn

from ldm.backbones.unet import UNet
from ldm.interop.diffusers import read_unet, write_unet
from ldm.interop.diffusers_config import UNET_DEFAULTS
from ldm.nn.embedding import fourier
from ldm.types import Condition
from tests.parity import Agree, same_gradients

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def unet_config(**changes: object) -> dict:
    config = {
        "in_channels": 4, "out_channels": 4, "channels": [8, 16], "attention": [True, False],
        "heads": [2, 4], "transformer_depth": [1, 1], "layers_per_level": 1, "context_dim": 6,
        "vector_dim": None, "pooling_heads": None, "linear_projection": False,
        "adaptive_norm": False, "residual_resampling": False, "groups": 4,
    }  # fmt: skip
    return config | changes


UNETS = {
    "smallest": unet_config(channels=[4], attention=[False], heads=[1], transformer_depth=[1]),
    "odd widths": unet_config(channels=[7, 21], groups=7, heads=[1, 3], context_dim=5),
    "two layers": unet_config(layers_per_level=2, in_channels=9, out_channels=3),
    "linear, deep": unet_config(
        channels=[8, 12, 24], attention=[False, True, True], heads=[1, 3, 2],
        transformer_depth=[1, 2, 3], linear_projection=True,
    ),
    "pooled text": unet_config(pooling_heads=3),
    "adaptive norm": unet_config(adaptive_norm=True, attention=[False, True]),
    "four layers": unet_config(layers_per_level=4, transformer_depth=[4, 1], heads=[1, 1]),
    "vector": unet_config(vector_dim=10 + 6 * 256, attention=[True, True], groups=2),
}  # fmt: skip


def randomised(network: nn.Module) -> nn.Module:
    """The same network away from its initialisation, where zeros would hide differences."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def make_unet(config: dict) -> UNet:
    return randomised(UNet(**config))


def unet_inputs(config: dict, dtype: torch.dtype) -> tuple[Tensor, Tensor, Condition, dict]:
    """Our inputs and what diffusers is given beyond them."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, config["in_channels"], 8, 8, generator=generator).to(dtype)
    tokens = torch.randn(2, 5, config["context_dim"], generator=generator).to(dtype)
    t = torch.tensor([3, 871])
    if config["vector_dim"] is None:
        return x, t, Condition(tokens=tokens), {}
    pooled = torch.randn(2, 10, generator=generator).to(dtype)
    sizes = torch.tensor([[512, 400, 0, 7, 512, 512], [64, 64, 1, 2, 3, 4]])
    vector = torch.cat([pooled, fourier(sizes, 256).flatten(1).to(dtype)], dim=1)
    extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}
    return x, t, Condition(tokens=tokens, vector=vector), extra


def pull(output: Tensor) -> None:
    """Backpropagate a scalar in which every output counts differently."""
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    (output * weight).mean().backward()


@pytest.mark.parametrize("name", UNETS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_unet_written_by_us_is_diffusers_unet(
    name: str, dtype: torch.dtype, tolerance: float, tmp_path: Path, agree: Agree
) -> None:
    config = UNETS[name]
    ours = make_unet(config)
    write_unet(ours, tmp_path, sample_size=8)
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert theirs.config.sample_size == 8
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    ours, theirs = ours.to(dtype), theirs.to(dtype).train()
    x, t, condition, extra = unet_inputs(config, dtype)
    out = ours(x, t, condition)
    expected = theirs(x, t, encoder_hidden_states=condition.tokens, **extra).sample
    assert out.std() > 0.1
    if config["pooling_heads"] is not None:
        tolerance = max(tolerance, 1e-5)  # their pooling takes its softmax in float32
    part, settings = "UNet2DConditionModel", {"configuration": name, "tolerance": tolerance}
    agree(out, expected, component=part, **settings)
    pull(out)
    pull(expected)
    agree(*same_gradients(ours, theirs, tolerance), component=f"{part}, gradients", **settings)


def test_one_way_into_the_time_embedding_at_a_time() -> None:
    with pytest.raises(ValueError, match="vector_dim and pooling_heads exclude each other"):
        UNet(**unet_config(vector_dim=8, pooling_heads=2))


@pytest.mark.parametrize("name", UNETS)
def test_unet_written_by_diffusers_is_read(name: str, tmp_path: Path) -> None:
    config = UNETS[name]
    write_unet(make_unet(config), tmp_path / "first")
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "first")
    theirs.save_pretrained(tmp_path / "pipeline" / "unet")
    for folder in (tmp_path / "pipeline" / "unet", tmp_path / "pipeline"):
        ours = read_unet(folder)
        assert ours.config == config
        assert all(p.dtype == torch.float32 and p.requires_grad for p in ours.parameters())
        for key, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value), key
    x, t, condition, extra = unet_inputs(config, torch.float32)
    expected = theirs(x, t, encoder_hidden_states=condition.tokens, **extra).sample
    torch.testing.assert_close(ours(x, t, condition), expected, rtol=1e-5, atol=1e-5)


def test_unet_in_several_files_and_half_precision(tmp_path: Path) -> None:
    unet = make_unet(UNETS["two layers"])
    write_unet(unet, tmp_path / "one")
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "one")
    theirs.half().save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert not (tmp_path / "many" / WEIGHTS).exists()
    read = read_unet(tmp_path / "many")
    for name, value in unet.state_dict().items():
        torch.testing.assert_close(read.state_dict()[name], value.half().float(), rtol=0, atol=0)
    write_unet(unet, tmp_path / "many")  # replaces the files of before
    torch.testing.assert_close(read_unet(tmp_path / "many").state_dict(), unet.state_dict())


def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        unet = UNet(
            **unet_config(
                channels=[320, 640, 1280, 1280], attention=[True, True, True, False],
                heads=[8] * 4, transformer_depth=[1] * 4, layers_per_level=2, context_dim=768,
                groups=32,
            )
        )  # fmt: skip
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964


def test_every_option_of_diffusers_is_known_with_its_default() -> None:
    signature = inspect.signature(diffusers.UNet2DConditionModel.__init__).parameters
    theirs = {name: p.default for name, p in signature.items() if name != "self"}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in theirs.items()} == UNET_DEFAULTS


@pytest.mark.parametrize(
    "option, value",
    [
        ("flip_sin_to_cos", False),
        ("dropout", 0.1),
        ("num_attention_heads", 4),
        ("mid_block_type", "UNetMidBlock2D"),
        ("resnet_time_scale_shift", "spatial"),
        ("addition_embed_type", "image"),
        ("down_block_types", ["CrossAttnDownBlock2D", "AttnDownBlock2D"]),
        ("up_block_types", ["CrossAttnUpBlock2D", "UpBlock2D"]),
        ("attention_head_dim", [1, 2, 3]),
        ("cross_attention_dim", [6, 7]),
        ("transformer_layers_per_block", [[1, 1], 1]),
        ("a_new_option", 1),
        ("_class_name", "UNet3DConditionModel"),
    ],
)
def test_what_the_unet_lacks_is_refused_by_name(option: str, value: object, tmp_path: Path) -> None:
    write_unet(make_unet(unet_config()), tmp_path)
    change(tmp_path / "config.json", **{option: value})
    with pytest.raises(ValueError, match=option if option != "_class_name" else "UNet3D"):
        read_unet(tmp_path)


def test_shorthand_of_published_configs_is_understood(tmp_path: Path) -> None:
    write_unet(make_unet(unet_config(heads=[2, 2])), tmp_path)
    shorthand = {"attention_head_dim": 2, "layers_per_block": [1, 1], "upcast_attention": True}
    change(tmp_path / "config.json", **shorthand)
    assert read_unet(tmp_path).config == unet_config(heads=[2, 2])


def test_missing_and_damaged_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="config.json is missing.*ldm train"):
        read_unet(tmp_path / "nowhere")
    write_unet(make_unet(unet_config()), tmp_path)
    change(tmp_path / "config.json", layers_per_block=2)
    with pytest.raises(ValueError, match=r"do not fit its settings; missing: .*resnets\.1"):
        read_unet(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="is damaged"):
        read_unet(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=f"{WEIGHTS} is missing.*ldm export"):
        read_unet(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        read_unet(tmp_path)


def change(file: Path, **options: object) -> None:
    """Edit a config file as a stranger would."""
    file.write_text(json.dumps(json.loads(file.read_text()) | options))
