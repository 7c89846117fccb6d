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
from ldm.types import Condition, ConditionEncoder

Sampler = Callable[..., Tensor]
Spacing = str | Callable[[NoiseSchedule, int], Levels]


class TextToImage(nn.Module):
    """A complete latent diffusion model, conditioned by captions, by classes or by nothing.

    ``forward``: prompts (B) and seeds (B,) int64 -> images (B, 3, H, W) in [-1, 1]. Image i
    depends on its prompt, its seed and the settings only, never on its neighbours in the batch.
    ``size_px`` is the size the model was trained at. ``spacing`` is a name of
    ``NoiseSchedule.levels`` or a function that makes the levels. ``sizes`` and ``negative_sizes``
    are for encoders that are told sizes (Stable Diffusion XL), by default those of a whole picture.
    """

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        autoencoder: Autoencoder,
        text_encoder: ConditionEncoder,
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
        sizes: Sequence[float] | None = None,
        negative_sizes: Sequence[float] | None = None,
    ) -> Tensor:
        device, dtype = self.scale.mean.device, self.scale.mean.dtype
        shape = (self.autoencoder.latent_channels, *[self.size_px // self.autoencoder.stride] * 2)
        seeds = seeds.to(device)
        condition = self._condition(prompts, self.sizes(sizes))
        null = self._null(negative, self.sizes(negative_sizes, negative=True))
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

    def _condition(self, prompts: Sequence[str], sizes: Tensor | None) -> Condition:
        ids = self.text_encoder.tokenize(prompts).to(self.scale.mean.device)
        return self.text_encoder(ids, None if sizes is None else sizes.expand(len(prompts), -1))

    def _null(self, negative: str, sizes: Tensor | None) -> Condition:
        return self._condition([negative], sizes) if negative else self.text_encoder.null(sizes)

    def sizes(self, given: Sequence[float] | None, *, negative: bool = False) -> Tensor | None:
        """A row (1, K) of sizes, the usual ones where none are given; None for encoders without.

        ValueError for another number of sizes than the text encoder is told.
        """
        usual = self.text_encoder.default_sizes(self.size_px, negative=negative)
        if given is not None and (usual is None or len(given) != len(usual)):
            allowed = "none" if usual is None else f"{len(usual)}, as {list(usual)}"
            raise ValueError(
                f"the text encoder is told {allowed} in sizes= and negative_sizes=, found "
                f"{list(given)}."
            )
        numbers = usual if given is None else given
        return None if numbers is None else torch.tensor([numbers], device=self.scale.mean.device)

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
