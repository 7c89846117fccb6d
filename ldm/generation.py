"""From prompts to pictures: denoiser, autoencoder and text encoder as one model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.autoencoders.convolutional import Autoencoder
from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.editing import keeping, mask_channels, shortened
from ldm.diffusion.guidance import guided
from ldm.diffusion.interpolation import lerp, slerp
from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.schedule import Levels, NoiseSchedule
from ldm.random import normal, stream
from ldm.types import Condition, ConditionEncoder

Sampler = Callable[..., Tensor]
Spacing = str | Callable[[NoiseSchedule, int], Levels]


class Edit(NamedTuple):
    """A picture that every image of a batch begins from, and what of it is painted anew.

    ``image`` (C, H, W) in [-1, 1]; ``strength`` in (0, 1] is the share of the steps that are made,
    from as much noise as belongs there; ``mask`` (H, W) bool is True where the image is painted
    anew, None is everywhere. Elsewhere it keeps its very pixels.
    """

    image: Tensor
    strength: float
    mask: Tensor | None = None


def require_mask(edit: Edit | None) -> None:
    """ValueError without a masked picture, which a model for inpainting needs."""
    if edit is None or edit.mask is None:
        raise ValueError(
            "this model paints the masked part of a picture: `ldm sample` takes one with "
            "image=FILE mask=FILE (white is painted)."
        )


class Towards(NamedTuple):
    """What each image of a batch is on its way to, and how far it has come.

    At weight 0 of ``weights`` (B,) an image is that of its own prompt and seed, at weight 1 that
    of ``prompts`` (B) and ``seeds`` (B,) int64.
    """

    prompts: Sequence[str]
    seeds: Tensor
    weights: Tensor

    def rows(self, indices: Sequence[int]) -> "Towards":
        """Of a longer batch, these."""
        prompts = [self.prompts[i] for i in indices]
        return Towards(prompts, self.seeds[list(indices)], self.weights[list(indices)])


class Start(NamedTuple):
    """What a sampling begins with: x (B, C, h, w), the levels from there, and who makes the way."""

    x: Tensor
    levels: Levels
    condition: Condition
    sampler: Sampler


class TextToImage(nn.Module):
    """A complete latent diffusion model, conditioned by captions, by classes or by nothing.

    ``forward``: prompts (B) and seeds (B,) int64 -> images (B, C, H, W) in [-1, 1]. Image i
    depends on its prompt, its seed and the settings only, never on its neighbours in the batch.
    ``size_px`` is the size the model was trained at, ``size`` (H, W) in pixels the pictures', by
    default a square of that. ``spacing`` is a name of ``NoiseSchedule.levels`` or a function that
    makes the levels. ``sizes`` and ``negative_sizes`` are for encoders that are told sizes (Stable
    Diffusion XL), by default those of a whole picture.
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
        size: tuple[int, int] | None = None,
        edit: Edit | None = None,
        towards: Towards | None = None,
    ) -> Tensor:
        size = self.size(size)
        self.check(edit, size)
        noise = self._noise(seeds, size, towards)
        told = self.sizes(sizes, size)
        condition = self._condition(prompts, told)
        if towards is not None:
            end = self._condition(towards.prompts, told)
            condition = lerp(condition, end, towards.weights.to(self.scale.mean.device))
        null = self._null(negative, self.sizes(negative_sizes, size, negative=True))
        null = null.map(lambda part: part.expand(len(prompts), *part.shape[1:]))
        start = Start(noise("initial"), self.levels(steps, spacing), condition, sampler)
        if edit is not None:
            start = self._edited(start, edit)
        latent = start.sampler(
            guided(
                self.denoiser,
                start.condition,
                null,
                guidance,
                rescale=guidance_rescale,
                interval=guidance_interval,
            ),
            start.x,
            start.levels,
            noise=lambda i: noise("sampler", i),
        )
        raw = self.scale.denormalize(latent).to(self.autoencoder.last_layer.dtype)
        images = self.autoencoder.decode(raw).clamp(-1.0, 1.0)
        if edit is None or edit.mask is None:
            return images
        return torch.where(edit.mask.to(images.device), images, edit.image.to(images))

    def size(self, given: Sequence[int] | None) -> tuple[int, int]:
        """Height and width of the pictures in pixels, the trained square where none are given.

        ValueError naming the nearest sizes that the networks can halve to their depth.
        """
        height, width = (self.size_px, self.size_px) if given is None else given
        side = self.autoencoder.stride * cast(int, self.denoiser.network.stride)
        if height % side or width % side:
            fitting = [max(round(pixels / side), 1) * side for pixels in (height, width)]
            raise ValueError(
                f"this model makes pictures whose height and width are multiples of {side} px; "
                f"found {height} x {width} (height x width), the nearest is size={fitting}."
            )
        return height, width

    def _noise(
        self, seeds: Tensor, size: tuple[int, int], towards: Towards | None
    ) -> Callable[..., Tensor]:
        """Noise (B, C, h, w) by the name of its stream, each image's from its seed alone."""
        device, dtype = self.scale.mean.device, self.scale.mean.dtype
        stride = self.autoencoder.stride
        shape = (self.autoencoder.latent_channels, *(pixels // stride for pixels in size))

        def noise(*names: str | int) -> Tensor:
            drawn = normal(stream(0, *names), seeds.to(device), shape)
            if towards is not None:
                end = normal(stream(0, *names), towards.seeds.to(device), shape)
                drawn = slerp(drawn, end, towards.weights.to(device))
            return drawn.to(dtype)

        return noise

    def _edited(self, start: Start, edit: Edit) -> Start:
        """The same begun from a picture, with what keeps the picture outside of the mask."""
        levels, eps = shortened(start.levels, edit.strength), start.x
        start, known = start._replace(levels=levels), self._known(edit.image)
        if edit.mask is None or edit.strength < 1.0:
            start = start._replace(x=float(levels.alpha[0]) * known + float(levels.sigma[0]) * eps)
        if edit.mask is None:
            return start
        if self.inpaints:
            image = self._seen_channels(edit).expand(len(eps), -1, -1, -1)
            return start._replace(condition=start.condition._replace(image=image))
        known_at = partial(self.denoiser.noised, known, eps)
        sampler = keeping(start.sampler, known, known_at, self._latent_mask(edit.mask))
        return start._replace(sampler=sampler)

    def _condition(self, prompts: Sequence[str], sizes: Tensor | None) -> Condition:
        ids = self.text_encoder.tokenize(prompts).to(self.scale.mean.device)
        return self.text_encoder(ids, None if sizes is None else sizes.expand(len(prompts), -1))

    def _null(self, negative: str, sizes: Tensor | None) -> Condition:
        return self._condition([negative], sizes) if negative else self.text_encoder.null(sizes)

    def sizes(
        self, given: Sequence[float] | None, size: tuple[int, int], *, negative: bool = False
    ) -> Tensor | None:
        """A row (1, K) of sizes, those of a whole picture of ``size`` where none are given.

        None for encoders without; ValueError for another number of sizes than it is told.
        """
        usual = self.text_encoder.default_sizes(*size, negative=negative)
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

    @property
    def image_channels(self) -> int:
        """C of the pictures: 3 in colour, 1 grey."""
        return int(self.autoencoder.config["image_channels"])

    @property
    def inpaints(self) -> bool:
        """Whether the network is one for inpainting, which sees mask and masked picture."""
        return cast(int, self.denoiser.network.in_channels) > self.autoencoder.latent_channels

    def check(self, edit: Edit | None, size: tuple[int, int]) -> None:
        """ValueError where this model cannot do the edit at this size, or nothing without one."""
        if self.inpaints:
            require_mask(edit)
        if edit is None:
            return
        for part in (edit.image, edit.mask):
            if part is not None and part.shape[-2:] != size:
                found = " x ".join(map(str, part.shape[-2:]))
                raise ValueError(
                    f"the pictures to make are {size[0]} x {size[1]} px (height x width); found "
                    f"{found}. Fit image and mask to that."
                )
        if edit.mask is not None and not self._latent_mask(edit.mask).any():
            side = self.autoencoder.stride
            raise ValueError(
                "what is to be painted falls through the grid of this model's latents, which sees "
                f"one pixel in {side} x {side}; make that part of the picture larger."
            )

    def in_blocks(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        block: int,
        first: int = 0,
        towards: Towards | None = None,
        **settings: object,
    ) -> Iterator[Tensor]:
        """Images of many prompts, ``block`` at a time; what is missing is filled up and cut.

        Every block has the same shape, so an image has the same bits wherever the run was cut.
        ``first`` is the position of the first image in its block.
        """
        count = len(prompts)
        for start in range(-first, count, block):
            # Copies of the first and last image fill up: a batch is a list of indices.
            rows = [min(max(i, 0), count - 1) for i in range(start, start + block)]
            images = self(
                [prompts[i] for i in rows],
                torch.tensor([seeds[i] for i in rows]),
                towards=None if towards is None else towards.rows(rows),
                **settings,
            )
            yield images[max(-start, 0) : count - start]

    def _known(self, image: Tensor) -> Tensor:
        """The normalised latents (1, C, h, w) of a picture (C, H, W): its code's mode."""
        dtype = self.autoencoder.last_layer.dtype
        code = self.autoencoder.encode(image[None].to(self.scale.mean.device, dtype))
        latent = self.autoencoder.regularizer.mode(code)
        return self.scale.normalize(latent.to(self.scale.mean.dtype))

    def _seen_channels(self, edit: Edit) -> Tensor:
        """What a network for inpainting sees beside x, (1, 1 + C, h, w)."""
        assert edit.mask is not None
        masked = self._known(edit.image.masked_fill(edit.mask, 0.0))
        return mask_channels(self._latent_mask(edit.mask), masked)

    def _latent_mask(self, mask: Tensor) -> Tensor:
        """A mask (H, W) bool at the latents' size (1, 1, h, w).

        Blending paints every cell that has a pixel to paint, as other pixels are put back anyway. A
        network for inpainting was trained with, and sees, each cell's corner pixel.
        """
        pixels = mask[None, None].to(self.scale.mean)
        if not self.inpaints:
            return F.max_pool2d(pixels, self.autoencoder.stride) > 0.5
        return F.interpolate(pixels, scale_factor=1 / self.autoencoder.stride, mode="nearest") > 0.5
