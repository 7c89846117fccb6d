"""The fast starts: identity or live residual branches, and a narrow posterior."""

import torch

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.initialization import fast_start
from ldm.autoencoders.regularizers import KL
from ldm.backbones import initialization
from ldm.backbones.unet import UNet
from ldm.nn.resnet import ResnetBlock


def test_autoencoder_starts_with_the_given_spread_and_identity_blocks() -> None:
    autoencoder = Autoencoder(
        image_channels=3,
        latent_channels=2,
        channels=[8, 16],
        attention=[False, False],
        mid_attention=False,
        layers_per_level=1,
        groups=1,
        regularizer=KL(),
    )
    # Until then nothing starts at zero, unlike in the denoiser (and but for the norms' shifts).
    assert all(bool(p.any()) for n, p in autoencoder.named_parameters() if "norm" not in n)
    fast_start(autoencoder, sigma=0.05)
    _, logvar = autoencoder.encode(torch.randn(4, 3, 16, 16)).chunk(2, dim=1)
    assert abs(float((0.5 * logvar.detach()).exp().mean()) - 0.05) < 0.01
    block = next(m for m in autoencoder.modules() if isinstance(m, ResnetBlock))
    x = torch.randn(2, 8, 4, 4)
    assert block(x).equal(x)


def test_denoiser_branches_are_live_but_its_output_starts_at_zero() -> None:
    network = UNet(
        in_channels=2,
        out_channels=2,
        channels=[8, 8],
        attention=[False, True],
        heads=[1, 1],
        transformer_depth=[1, 1],
        layers_per_level=1,
        context_dim=4,
        vector_dim=None,
        pooling_heads=None,
        linear_projection=True,
        adaptive_norm=False,
        residual_resampling=False,
        groups=4,
    )
    blocks = [m for m in network.modules() if isinstance(m, ResnetBlock)]
    assert all(not bool(block.conv2.weight.any()) for block in blocks)
    initialization.fast_start(network)
    assert all(bool(block.conv2.weight.any()) for block in blocks)
    assert not bool(network.conv_out.weight.any())
