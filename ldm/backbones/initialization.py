"""How a denoiser starts when it has minutes, not days."""

from torch import nn

from ldm.backbones.unet import UNet
from ldm.nn.attention import SpatialAttention, SpatialTransformer
from ldm.nn.resnet import ResnetBlock


def fast_start(network: UNet) -> None:
    """Every residual branch starts at PyTorch's defaults instead of at zero.

    Zeroed branches (Dhariwal and Nichol 2021) make deep networks safe at the start; a small one
    that trains for a thousand steps loses a good part of them waiting. The last layer stays zero.
    """
    for module in network.modules():
        if isinstance(module, ResnetBlock):
            module.conv2.reset_parameters()
        elif isinstance(module, SpatialTransformer):
            assert isinstance(module.proj_out, nn.Linear | nn.Conv2d)
            module.proj_out.reset_parameters()
        elif isinstance(module, SpatialAttention):
            out = module.to_out[0]
            assert isinstance(out, nn.Linear)
            out.reset_parameters()
