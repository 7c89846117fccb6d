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
from tests.parity import Agree

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "backbone"

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


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        network = UNet(**settings(name))
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name]


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


@pytest.mark.parametrize("adaptive_norm", [False, True])
@pytest.mark.parametrize("residual_resampling", [False, True])
def test_unconditional_networks_are_diffusers_unet2dmodel(
    adaptive_norm: bool, residual_resampling: bool, agree: Agree
) -> None:
    ours = randomised(
        UNet(**small(adaptive_norm=adaptive_norm, residual_resampling=residual_resampling))
    )
    resample = "resnet" if residual_resampling else "conv"
    theirs = diffusers.UNet2DModel(
        in_channels=4, out_channels=4, block_out_channels=(8, 8, 16), layers_per_block=2,
        down_block_types=("AttnDownBlock2D",) * 3, up_block_types=("AttnUpBlock2D",) * 3,
        attention_head_dim=4, norm_num_groups=4, attn_norm_num_groups=4, norm_eps=1e-5,
        downsample_padding=1,
        downsample_type=resample, upsample_type=resample,
        resnet_time_scale_shift="scale_shift" if adaptive_norm else "default",
    ).double()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    x, t = inputs()
    out, expected = ours(x, t, Condition(tokens=None)), theirs(x, t).sample
    assert out.std() > 0.1
    name = f"unconditional, adaptive norm {adaptive_norm}, residual {residual_resampling}"
    agree(out, expected, component="UNet2DModel", configuration=name, tolerance=1e-10)
    (out**2).mean().backward()
    (expected**2).mean().backward()
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, theirs_by_name[name].grad, rtol=1e-10, atol=1e-10, msg=name
        )


def test_an_unconditional_network_goes_in_and_out_of_a_folder(tmp_path: Path) -> None:
    ours = randomised(UNet(**small())).float()
    write_unet(ours, tmp_path, sample_size=16)
    again = read_unet(tmp_path)
    assert again.config == ours.config
    for name, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("seed", range(8))
def test_any_legal_configuration_is_diffusers_conditional_unet(
    seed: int, tmp_path: Path, agree: Agree
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
    ours = randomised(UNet(**config))
    write_unet(ours, tmp_path)
    theirs = diffusers.UNet2DConditionModel.from_pretrained(
        tmp_path, torch_dtype=torch.float64, low_cpu_mem_usage=False
    )
    x = torch.randn(2, config["in_channels"], 8, 8, dtype=torch.float64)
    tokens = torch.randn(2, 3, config["context_dim"], dtype=torch.float64)
    t = torch.tensor([3, 871])
    out = ours(x, t, Condition(tokens=tokens))
    expected = theirs(x, t, encoder_hidden_states=tokens).sample
    name = f"random {seed}: {config['channels']}, {config['layers_per_level']} layers"
    agree(out, expected, component="UNet2DConditionModel", configuration=name, tolerance=1e-10)


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
