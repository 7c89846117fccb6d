"""torch.compile of what is trained, in place: the names of parameters stay."""

from typing import Any

from torch import nn

from ldm.autoencoders.convolutional import Autoencoder
from ldm.backbones.unet import UNet


def compile_in_place(network: nn.Module, **options: Any) -> None:
    """Compile the forward and backward pass of a network; ``options`` are torch.compile's.

    Of an autoencoder the decoder's end stays as it is: the adaptive weight of the adversarial loss
    takes gradients at the last layer alone, and a compiled part would give all of its own. What is
    compiled learns with its first step, which takes minutes, and again with other shapes.
    """
    for part in _parts(network):
        part.compile(**options)


def _parts(network: nn.Module) -> list[nn.Module]:
    if isinstance(network, Autoencoder):
        decoder = network.decoder
        return [network.encoder, decoder.mid_block, *decoder.up_blocks]
    return [module for module in network.modules() if isinstance(module, UNet)] or [network]
