"""How an autoencoder starts when it has minutes, not days."""

import math

import torch
from torch import nn

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import KL
from ldm.nn.resnet import ResnetBlock
from ldm.ranges import Positive


@torch.no_grad()
def fast_start(autoencoder: Autoencoder, *, sigma: Positive) -> None:
    """Residual blocks start as the identity, a KL posterior with spread ``sigma``.

    The original starts from PyTorch's defaults, whose spread of 1 drowns the latents for the first
    thousands of steps. Zeroed residual branches follow Goyal et al. 2017, section 5.1.
    """
    for module in autoencoder.modules():
        if isinstance(module, ResnetBlock):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)  # type: ignore[arg-type]
    if isinstance(autoencoder.regularizer, KL):
        logvar = slice(autoencoder.latent_channels, None)
        autoencoder.quant_conv.weight[logvar] *= 0.1
        autoencoder.quant_conv.bias[logvar] = 2.0 * math.log(sigma)  # type: ignore[index]
