"""Activations that are computed twice: the same gradients to the bit, and much less kept."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import KL
from ldm.backbones.unet import UNet
from ldm.nn.blocks import BLOCKS, blocks, recompute_activations
from ldm.types import Condition


def unet() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    network = UNet(
        in_channels=4, out_channels=4, channels=[8, 16], attention=[False, True], heads=[1, 2],
        transformer_depth=[1, 2], layers_per_level=1, context_dim=12, vector_dim=None,
        pooling_heads=None, linear_projection=True, adaptive_norm=False,
        residual_resampling=False, groups=4,
    )  # fmt: skip
    x, tokens = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 12)
    return network, lambda net: net(x, torch.tensor([3.0, 700.0]), Condition(tokens=tokens))


def autoencoder() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    network = Autoencoder(
        image_channels=3, latent_channels=4, channels=[8, 8], attention=[False, True],
        mid_attention=True, layers_per_level=1, groups=4, regularizer=KL(),
    )  # fmt: skip
    image, noise = torch.randn(2, 3, 32, 32), torch.randn(2, 4, 16, 16)
    return network, lambda net: net(image, noise)[0]


def learn(network: nn.Module, run: Callable[[nn.Module], Tensor]) -> tuple[list[Tensor], int]:
    """Output and gradients, and the bytes of activations that were kept for the backward pass."""
    owned = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def see(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(see, lambda value: value):
        output = run(network)
        bytes_kept = sum(kept.values())
    output.square().sum().backward()
    return [output.detach(), *(p.grad for p in network.parameters())], bytes_kept


@pytest.mark.parametrize("make", [unet, autoencoder])
def test_gradients_are_the_same_to_the_bit_with_less_kept(make):
    torch.manual_seed(0)
    network, run = make()
    for parameter in network.parameters():  # what starts at zero would hide differences
        nn.init.normal_(parameter, std=0.1)
    names = list(network.state_dict())
    plain, much = learn(network, run)
    network.zero_grad(set_to_none=True)
    recompute_activations(network)
    again, little = learn(network, run)
    assert list(network.state_dict()) == names
    assert all(torch.equal(one, two) for one, two in zip(plain, again, strict=True))
    assert little < 0.5 * much


@pytest.mark.parametrize("make", [unet, autoencoder])
def test_blocks_hold_nearly_all_weights_and_do_not_overlap(make):
    network, _ = make()
    found = list(blocks(network))
    assert not any(
        isinstance(inner, BLOCKS) for block in found for inner in list(block.modules())[1:]
    )
    inside = sum(p.numel() for block in found for p in block.parameters())
    assert inside > 0.6 * sum(p.numel() for p in network.parameters())
