"""Training batches of images and of latents, each a pure function of (step, global indices)."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ldm.data.cache import LatentCache
from ldm.data.images import to_tensor
from ldm.data.order import Share, StepSampler, positions
from ldm.data.shards import ImageShards
from ldm.random import stream, uniform

Slot = tuple[int, Tensor]


@dataclass
class Batch:
    """A micro-batch of a step; ``index`` holds the global indices of its samples."""

    step: int
    index: Tensor  # (B,) int64

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, from where it reaches a GPU while that computes."""
        pinned = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(pinned, name, value.pin_memory())
        return pinned


@dataclass
class ImageBatch(Batch):
    """Pictures of one micro-batch."""

    image: Tensor  # (B, 3, H, W) in [-1, 1]
    ids: Tensor  # (B, L) token ids; L = 0 where captions are not needed


@dataclass
class LatentBatch(Batch):
    """Cached codes of one micro-batch."""

    code: Tensor  # (B, S, h, w) as the autoencoder's regulariser stores it
    ids: Tensor  # (B, ...) as the condition encoder takes them
    sizes: Tensor  # (B, K) of the pictures, in pixels: ``ldm.data.sizes``; K = 0 without
    tokens: Tensor | None = None  # (B, L, D) float16: stored text features, where there are some
    vector: Tensor | None = None  # (B, W) float16


Tokenize = Callable[[Sequence[str]], Tensor]


class ImageBatches(Dataset[ImageBatch]):
    """Pictures from shards, cropped to ``size_px`` and optionally mirrored (keyed, law 1)."""

    def __init__(
        self,
        shards: ImageShards,
        *,
        size_px: int,
        flip: bool,
        seed: int,
        tokenize: Tokenize | None = None,
    ) -> None:
        self.shards, self.size_px, self.flip, self.seed = shards, size_px, flip, seed
        self.tokenize = tokenize

    def __getitem__(self, slot: Slot) -> ImageBatch:
        step, index = slot
        where = positions(self.seed, len(self.shards), index).tolist()
        samples = [self.shards[i] for i in where]
        image = torch.stack([crop(sample.image, self.size_px) for sample in samples])
        if self.flip:
            mirrored = uniform(stream(self.seed, "flip"), index) < 0.5
            image = torch.where(mirrored.view(-1, 1, 1, 1), image.flip(-1), image)
        captions = [sample.caption for sample in samples]
        ids = torch.empty(len(index), 0, dtype=torch.int64)
        return ImageBatch(step, index, image, self.tokenize(captions) if self.tokenize else ids)


def crop(image: np.ndarray, size_px: int) -> Tensor:
    """The centre square of a picture as (3, size, size) in [-1, 1]; ValueError if it is smaller."""
    height, width = image.shape[:2]
    if min(height, width) < size_px:
        raise ValueError(
            f"a picture of {width}x{height} px is smaller than size={size_px}; prepare the shards "
            f"with `data.size_px={size_px}` or train at a smaller size."
        )
    top, left = (height - size_px) // 2, (width - size_px) // 2
    return to_tensor(image[top : top + size_px, left : left + size_px])


class LatentBatches(Dataset[LatentBatch]):
    """Codes, ids and sizes gathered from a latent cache."""

    def __init__(self, cache: LatentCache, *, seed: int) -> None:
        self.cache, self.seed = cache, seed

    def __getitem__(self, slot: Slot) -> LatentBatch:
        step, index = slot
        rows = positions(self.seed, len(self.cache), index)
        variant, caption = (uniform(stream(self.seed, n), index) for n in ("variant", "caption"))
        return LatentBatch(
            step, index, *self.cache.gather(0, rows, variant=variant, caption=caption)
        )


def train_loader(
    batches: Dataset, share: Share, *, start_step: int, stop_step: int, workers: int
) -> DataLoader:
    """Micro-batches of one rank in order, from ``start_step`` to ``stop_step`` (exclusive)."""
    return DataLoader(
        batches,
        sampler=StepSampler(share, start_step=start_step, stop_step=stop_step),
        batch_size=None,
        num_workers=workers,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="forkserver" if workers else None,
    )
