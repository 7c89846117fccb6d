"""Pictures of what latents stand: perturbed ones decoded, and noise in their place."""

import torch
from torch import Tensor

from ldm.autoencoders.convolutional import Autoencoder
from ldm.random import normal, stream

LATENT_ROWS = 8  # pictures that are looked at
PERTURBATIONS = (0.1, 0.3)  # standard deviations of each channel: errors of a denoiser
LATENT_COLUMNS = 2 + len(PERTURBATIONS)


@torch.no_grad()
def latent_pictures(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] -> four pictures of each: (B, 4, 3, H, W).

    Its reconstruction; the same with 0.1 and with 0.3 standard deviations of noise on the latents;
    and standard normal noise decoded, which shows nothing: nobody makes latents normal.
    """
    regularizer = autoencoder.regularizer
    latent = regularizer.mode(autoencoder.encode(images))
    spread = latent.std((0, 2, 3), keepdim=True)
    index = torch.arange(len(latent), device=latent.device)
    perturbation, alone = (
        normal(stream(0, name), index, latent.shape[1:]).to(latent.dtype)
        for name in ("perturbed_latent", "latent_noise")
    )
    perturbed = [latent + size * spread * perturbation for size in PERTURBATIONS]
    decoded = [autoencoder.decode(z) for z in (latent, *perturbed, alone)]
    return torch.stack(decoded, dim=1).clamp(-1.0, 1.0)
