"""The UNet's published sizes, its unconditional form, and what it refuses."""

import random
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import yaml
from torch import Tensor, nn

from ldm.backbones.initialization import fast_start
from ldm.backbones.unet import UNet
from ldm.interop.diffusers import read_unet, write_unet
from ldm.types import Condition
from tests.parity import Agree, same_gradients

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "backbone"

PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
PUBLISHED = {
    "unet_sd1": 859_520_964, "unet_sd1_inpaint": 859_535_364, "unet_sd2": 865_910_724,
    "unet_sdxl": 2_567_463_684, "unet_sdxl_refiner": 2_259_526_660,
    "unet_cin256": 394_984_196, "unet_lsun_churches": 294_966_916,
}  # fmt: skip


def settings(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert found.pop("_target_") == "ldm.backbones.unet.UNet"
    return found


def test_every_config_of_a_published_network_is_in_the_table() -> None:
    assert {path.stem for path in CONFIGS.glob("unet_*.yaml")} - {"unet_demo"} == set(PUBLISHED)


def as_published(name: str) -> nn.Module:
    """Diffusers' network of a published config.json (whose ``attention_head_dim`` counts heads)."""
    if name == "unet_lsun_churches":  # never published in this format
        return diffusers.UNet2DModel(
            in_channels=4, out_channels=4, block_out_channels=(192, 384, 384, 768, 768),
            down_block_types=("AttnDownBlock2D",) * 4 + ("DownBlock2D",), layers_per_block=2,
            up_block_types=("ResnetUpsampleBlock2D",) + ("AttnUpBlock2D",) * 4,
            attn_norm_num_groups=32, downsample_type="resnet", upsample_type="resnet",
            resnet_time_scale_shift="scale_shift",
        )  # fmt: skip
    crossed, down, up = "CrossAttnDownBlock2D", "DownBlock2D", "UpBlock2D"
    vector = {"use_linear_projection": True, "addition_embed_type": "text_time",
              "addition_time_embed_dim": 256}  # fmt: skip
    return diffusers.UNet2DConditionModel(**{
        "unet_sd1": {"cross_attention_dim": 768},
        "unet_sd1_inpaint": {"cross_attention_dim": 768, "in_channels": 9},
        "unet_sd2": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
                     "use_linear_projection": True},
        "unet_sdxl": vector | {
            "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
            "down_block_types": (down, crossed, crossed),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", up),
            "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048,
            "projection_class_embeddings_input_dim": 2816,
        },
        "unet_sdxl_refiner": vector | {
            "block_out_channels": (384, 768, 1536, 1536), "attention_head_dim": (6, 12, 24, 24),
            "down_block_types": (down, crossed, crossed, down),
            "up_block_types": (up, "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", up),
            "transformer_layers_per_block": 4, "cross_attention_dim": 1280,
            "projection_class_embeddings_input_dim": 2560,
        },
        "unet_cin256": {
            "block_out_channels": (256, 512, 1024), "attention_head_dim": (8, 16, 32),
            "down_block_types": (crossed,) * 3, "up_block_types": ("CrossAttnUpBlock2D",) * 3,
            "cross_attention_dim": 512,
        },
    }[name])  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_published_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        network, theirs = UNet(**settings(name)), as_published(name)
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name]
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}


def test_what_the_way_up_takes_from_the_way_down() -> None:
    """Widths into its residual blocks, the skip included, as the originals' listings have them."""
    expected = {
        "unet_sd1": [2560] * 5 + [1920] * 2 + [1280, 960, 960, 640, 640],
        "unet_sdxl": [2560, 2560, 1920, 1920, 1280, 960, 960, 640, 640],
    }
    for name, widths in expected.items():
        with torch.device("meta"):
            network = UNet(**settings(name))
        resnets = [block for level in network.up_blocks for block in level.resnets]  # type: ignore[union-attr]
        assert [block.norm1.num_channels for block in resnets] == widths


DEEP = {"attention": [False, True, True, True], "in_channels": 3, "out_channels": 3}
PLAIN = {"transformer_depth": [0] * 4, "adaptive_norm": False, "residual_resampling": False}
RELATIVES: dict[str, tuple[str, dict[str, Any], int]] = {  # of latent diffusion, in some settings
    "text2img-large": ("unet_sd1", {"context_dim": 1280}, 872_300_484),
    "cin256-v2": (
        "unet_cin256",
        DEEP | {"channels": [192, 384, 576, 960], "heads": [1] * 4, "transformer_depth": [1] * 4},
        400_920_579,
    ),
    "text2img256": (
        "unet_cin256",
        DEEP | {"channels": [192, 384, 576, 960], "heads": [6, 12, 18, 30],
                "transformer_depth": [1] * 4, "context_dim": 640},
        403_623_939,
    ),
    "layout2img": (
        "unet_cin256",
        DEEP | {"channels": [128, 256, 384, 512], "heads": [4, 8, 12, 16],
                "transformer_depth": [3] * 4},
        246_277_379,
    ),
    "celeba, ffhq, lsun-beds": (
        "unet_lsun_churches",
        DEEP | PLAIN | {"channels": [224, 448, 672, 896], "heads": [7, 14, 21, 28]},
        274_056_163,
    ),
    "inpainting_big": (
        "unet_lsun_churches",
        DEEP | PLAIN | {"channels": [256, 512, 768, 1024], "heads": [8] * 4, "in_channels": 7,
                        "residual_resampling": True},
        387_245_827,
    ),
    "bsr_sr": (
        "unet_lsun_churches",
        DEEP | PLAIN | {"channels": [160, 320, 320, 640], "heads": [5, 10, 10, 20],
                        "attention": [False, False, False, True], "in_channels": 6},
        113_622_563,
    ),
    "semantic_synthesis256": (
        "unet_lsun_churches",
        DEEP | PLAIN | {"channels": [128, 512, 1024], "heads": [8] * 3, "attention": [False] * 3,
                        "transformer_depth": [0] * 3, "in_channels": 6},
        215_229_315,
    ),
    "retrieval-augmented, 768 px": (
        "unet_cin256",
        {"channels": [448, 896, 1344, 1792], "attention": [True, True, True, False],
         "heads": [14, 28, 42, 56], "transformer_depth": [1] * 4, "context_dim": 768,
         "in_channels": 16, "out_channels": 16},
        1_335_480_400,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RELATIVES)
def test_published_relatives(name: str) -> None:
    base, changes, weights = RELATIVES[name]
    with torch.device("meta"):
        network = UNet(**settings(base) | changes)
    assert sum(p.numel() for p in network.parameters()) == weights


def small(**changes: Any) -> dict[str, Any]:
    """An unconditional network of the churches' kind, with heads of four channels."""
    return settings("unet_lsun_churches") | {
        "channels": [8, 8, 16], "attention": [True, True, True], "heads": [2, 2, 4],
        "transformer_depth": [0, 0, 0], "layers_per_level": 2, "groups": 4,
    } | changes  # fmt: skip


def randomised(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.double()


def inputs() -> tuple[Tensor, Tensor]:
    x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    return x, torch.tensor([3, 871])


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
@pytest.mark.parametrize("adaptive_norm", [False, True])
@pytest.mark.parametrize("residual_resampling", [False, True])
def test_unconditional_networks_are_diffusers_unet2dmodel(
    adaptive_norm: bool,
    residual_resampling: bool,
    dtype: torch.dtype,
    tolerance: float,
    agree: Agree,
) -> None:
    ours = randomised(
        UNet(**small(adaptive_norm=adaptive_norm, residual_resampling=residual_resampling))
    ).to(dtype)
    resample = "resnet" if residual_resampling else "conv"
    theirs = diffusers.UNet2DModel(
        in_channels=4, out_channels=4, block_out_channels=(8, 8, 16), layers_per_block=2,
        down_block_types=("AttnDownBlock2D",) * 3, up_block_types=("AttnUpBlock2D",) * 3,
        attention_head_dim=4, norm_num_groups=4, attn_norm_num_groups=4, norm_eps=1e-5,
        downsample_padding=1,
        downsample_type=resample, upsample_type=resample,
        resnet_time_scale_shift="scale_shift" if adaptive_norm else "default",
    ).to(dtype)  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    x, t = inputs()
    out = ours(x.to(dtype), t, Condition(tokens=None))
    expected = theirs(x.to(dtype), t).sample
    assert out.std() > 0.1
    name = f"adaptive norm {adaptive_norm}, residual {residual_resampling}"
    row = {"configuration": name, "tolerance": tolerance}
    agree(out, expected, component="UNet2DModel", **row)
    (out**2).mean().backward()
    (expected**2).mean().backward()
    agree(*same_gradients(ours, theirs, tolerance), component="UNet2DModel, gradients", **row)


def test_an_unconditional_network_goes_in_and_out_of_a_folder(tmp_path: Path) -> None:
    ours = randomised(UNet(**small())).float()
    write_unet(ours, tmp_path, sample_size=16)
    again = read_unet(tmp_path)
    assert again.config == ours.config
    for name, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
@pytest.mark.parametrize("seed", range(8))
def test_any_legal_configuration_is_diffusers_conditional_unet(
    seed: int, dtype: torch.dtype, tolerance: float, tmp_path: Path, agree: Agree
) -> None:
    draw = random.Random(seed)
    levels = draw.randint(1, 4)
    groups = draw.choice([1, 3, 4])
    heads = [draw.randint(1, 3) for _ in range(levels)]
    config = settings("unet_sd1") | {
        "in_channels": draw.randint(1, 9), "out_channels": draw.randint(1, 5),
        "channels": [groups * count * draw.randint(1, 3) for count in heads], "heads": heads,
        "attention": [draw.random() < 0.6 for _ in range(levels)],
        "transformer_depth": [draw.randint(1, 4) for _ in range(levels)],
        "layers_per_level": draw.randint(1, 4), "context_dim": draw.randint(1, 7),
        "linear_projection": draw.random() < 0.5, "adaptive_norm": draw.random() < 0.3,
        "groups": groups,
    }  # fmt: skip
    ours = randomised(UNet(**config)).to(dtype)
    write_unet(ours, tmp_path)
    theirs = diffusers.UNet2DConditionModel.from_pretrained(
        tmp_path, torch_dtype=dtype, low_cpu_mem_usage=False
    ).train()
    x = torch.randn(2, config["in_channels"], 8, 8, dtype=dtype)
    tokens = torch.randn(2, 3, config["context_dim"], dtype=dtype)
    mask = torch.tensor([[True, True, False], [True, False, True]])
    t = torch.tensor([3, 871])
    out = ours(x, t, Condition(tokens=tokens, mask=mask))
    expected = theirs(x, t, encoder_hidden_states=tokens, encoder_attention_mask=mask).sample
    name = f"random {seed}, masked: {config['channels']}, {config['layers_per_level']} layers"
    part, row = "UNet2DConditionModel", {"configuration": name, "tolerance": tolerance}
    agree(out, expected, component=part, **row)
    (out**2).mean().backward()
    (expected**2).mean().backward()
    agree(*same_gradients(ours, theirs, tolerance), component=f"{part}, gradients", **row)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"transformer_depth": [0, 1, 0]}, "transformers need a context"),
        ({"pooling_heads": 2}, "pooling_heads pools a caption"),
        ({"heads": [2, 2]}, "one entry per level, found channels 3, attention 3, heads 2"),
        ({"groups": 5}, "channels 8 is no multiple of groups 5"),
        ({"vector_dim": 3, "pooling_heads": 2, "context_dim": 4}, "exclude each other"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**small(**changes))


def test_it_starts_at_zero_and_its_branches_may_start_faster() -> None:
    x, t = inputs()
    network = UNet(**small()).double()
    assert not network(x, t, Condition(tokens=None)).any()
    branches = [m.to_out[0] for m in network.modules() if hasattr(m, "to_out")]
    assert branches and not any(branch.weight.any() for branch in branches)
    fast_start(network)
    assert all(branch.weight.any() for branch in branches)
    assert not network(x, t, Condition(tokens=None)).any()  # the last layer stays zero
