"""Latent statistics folded into the autoencoder's outermost 1x1 convolutions."""

import copy

import torch

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import KL
from ldm.diffusion.latent_scale import LatentScale


@torch.no_grad()
def folded(autoencoder: Autoencoder, scale: LatentScale, *, factor: float) -> Autoencoder:
    """An autoencoder whose raw latents, times ``factor``, are the normalised ones of the original.

    With z = s z' + m per channel, where s = std factor and m = mean: quant_conv gives the posterior
    of z' (its mean less m, over s; its logvar less 2 log s), post_quant_conv takes z'. Exact but
    for the clamp of logvar, which holds for the new one. Programs that know one scaling factor for
    all channels then see per-channel statistics. ValueError for an autoencoder that is not KL.
    """
    if not isinstance(autoencoder.regularizer, KL):
        name = type(autoencoder.regularizer).__name__.lower()
        raise ValueError(
            f"the setting regularizer={name} of this model has no place in this layout, whose "
            "readers know autoencoders with a Gaussian posterior (kl) only. Export it with "
            "format=diffusers."
        )
    channels = autoencoder.latent_channels
    mean = scale.mean.detach().double().flatten().expand(channels)
    std = scale.std.detach().double().flatten().expand(channels) * factor
    result = copy.deepcopy(autoencoder)
    # Statistics are stored in float32: what is the identity up to that leaves every bit alone.
    if bool((mean == 0.0).all()) and bool(((std - 1.0).abs() < 1e-6).all()):
        return result
    quant, post = result.quant_conv, result.post_quant_conv
    assert quant.bias is not None and post.bias is not None
    stretch = torch.cat([std, torch.ones_like(std)])  # of mean and logvar
    shift = torch.cat([mean / std, 2.0 * std.log()])
    inner = post.weight.double()[:, :, 0, 0]
    values = (
        (quant.weight, quant.weight.double() / stretch.view(-1, 1, 1, 1)),
        (quant.bias, quant.bias.double() / stretch - shift),
        (post.bias, post.bias.double() + inner @ mean),
        (post.weight, (inner * std)[:, :, None, None]),
    )
    for parameter, value in values:
        parameter.copy_(value)
    return result
