"""From prompts to pictures: denoiser, autoencoder and text encoder as one model."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ldm.autoencoders.convolutional import Autoencoder
from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.guidance import guided
from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.schedule import Levels, NoiseSchedule
from ldm.random import normal, stream
from ldm.text.clip import ClipText

Sampler = Callable[..., Tensor]
Spacing = str | Callable[[NoiseSchedule, int], Levels]


class TextToImage(nn.Module):
    """A complete latent diffusion model.

    ``forward``: prompts (B) and seeds (B,) int64 -> images (B, 3, H, W) in [-1, 1]. Image i
    depends on its prompt, its seed and the settings only, never on its neighbours in the batch.
    ``size_px`` is the size the model was trained at. ``spacing`` is a name of
    ``NoiseSchedule.levels`` or a function that makes the levels.
    """

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        autoencoder: Autoencoder,
        text_encoder: ClipText,
        scale: LatentScale,
        size_px: int,
    ) -> None:
        super().__init__()
        self.denoiser, self.autoencoder = denoiser, autoencoder
        self.text_encoder, self.scale, self.size_px = text_encoder, scale, size_px

    @torch.no_grad()
    def forward(
        self,
        prompts: Sequence[str],
        seeds: Tensor,
        *,
        sampler: Sampler,
        steps: int,
        guidance: float,
        spacing: Spacing,
        negative: str = "",
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] | None = None,
    ) -> Tensor:
        device, dtype = self.scale.mean.device, self.scale.mean.dtype
        shape = (self.autoencoder.latent_channels, *[self.size_px // self.autoencoder.stride] * 2)
        seeds = seeds.to(device)
        condition = self.text_encoder(self.text_encoder.tokenize(prompts).to(device))
        null = self.text_encoder(self.text_encoder.tokenize([negative]).to(device))
        null = null.map(lambda part: part.expand(len(prompts), *part.shape[1:]))
        levels = self.levels(steps, spacing)
        latent = sampler(
            guided(
                self.denoiser,
                condition,
                null,
                guidance,
                rescale=guidance_rescale,
                interval=guidance_interval,
            ),
            normal(stream(0, "initial"), seeds, shape).to(dtype),
            levels,
            noise=lambda i: normal(stream(0, "sampler", i), seeds, shape).to(dtype),
        )
        raw = self.scale.denormalize(latent).to(self.autoencoder.last_layer.dtype)
        return self.autoencoder.decode(raw).clamp(-1.0, 1.0)

    def levels(self, steps: int, spacing: Spacing) -> Levels:
        """The noise levels that a sampler visits; ValueError where the schedule has none such."""
        schedule = self.denoiser.schedule
        return spacing(schedule, steps) if callable(spacing) else schedule.levels(steps, spacing)

    def in_blocks(
        self, prompts: Sequence[str], seeds: Sequence[int], *, block: int, **settings: object
    ) -> Iterator[Tensor]:
        """Images of many prompts, ``block`` at a time; the last block is filled up and cut.

        Every block has the same shape, so an image has the same bits wherever the run was cut.
        """
        for start in range(0, len(prompts), block):
            some = list(prompts[start : start + block])
            numbers = list(seeds[start : start + block])
            missing = block - len(some)
            images = self(some + [""] * missing, torch.tensor(numbers + [0] * missing), **settings)
            yield images[: len(some)]
