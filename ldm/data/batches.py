"""Training batches of images and of latents, each a pure function of (step, global indices)."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ldm.data.images import fit, to_tensor
from ldm.data.latents.cache import LatentCache
from ldm.data.order import (
    Buckets,
    InBuckets,
    Once,
    OneBucket,
    Share,
    Shuffled,
    Slot,
    StepSampler,
    Streamed,
)
from ldm.data.shards.reader import ImageShards
from ldm.data.source import Bad, Sample
from ldm.data.workers import CONTEXT, begin, start_server
from ldm.random import stream, uniform

_MAX_BAD_IN_A_ROW = 100


@dataclass
class Batch:
    """A micro-batch of a step; ``index`` holds the global indices of its samples."""

    step: int
    index: Tensor  # (B,) int64
    micro_steps: int = field(default=1, kw_only=True)  # micro-batches of this step on each rank
    bad: tuple[Bad, ...] = field(default=(), kw_only=True)  # could not be read and are replaced

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, from where it reaches a GPU while that computes."""
        return self._with(Tensor.pin_memory)

    def to(self, device: torch.device, non_blocking: bool = False) -> Self:
        """The same batch on a device; itself where it is there already."""
        if self.index.device == device:
            return self
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(changed, name, change(value))
        return changed


@dataclass
class ImageBatch(Batch):
    """Pictures of one micro-batch."""

    image: Tensor  # (B, C, H, W) in [-1, 1]
    ids: Tensor  # (B, L) token ids; L = 0 where captions are not needed


@dataclass
class LatentBatch(Batch):
    """Cached codes of one micro-batch."""

    code: Tensor  # (B, S, h, w) float16, as the autoencoder's regulariser stores it
    ids: Tensor  # (B, ...) as the condition encoder takes them
    sizes: Tensor  # (B, K) of the pictures, in pixels: ``ldm.data.latents.sizes``; K = 0 without
    tokens: Tensor | None = None  # (B, L, D) float16: stored text features, where there are some
    vector: Tensor | None = None  # (B, W) float16


class Batches(Protocol):
    """What training and validation ask of their data, beside the batch of a slot."""

    @property
    def counts(self) -> Sequence[int]:
        """Samples by bucket."""
        ...

    @property
    def sizes_px(self) -> Sequence[tuple[int, int]]:
        """Height and width of the pictures by bucket."""
        ...

    @property
    def buckets(self) -> Buckets:
        """Which bucket each training step reads."""
        ...

    def __getitem__(self, slot: Slot) -> Batch:
        """The micro-batch of a slot."""
        ...

    def describe(self, slot: Slot) -> list[dict[str, Any]]:
        """What is known of each sample of a slot without reading it: key and caption, or position.

        A position is that in the shards from which latents were made.
        """
        ...


Tokenize = Callable[[Sequence[str]], Tensor]


class ImageBatches(Dataset[ImageBatch]):
    """Pictures from shards, squares of ``size_px``, optionally mirrored.

    Mirroring and the choice among several captions are keyed by the global index (law 1). A picture
    that cannot be used is replaced by the next in the shards and named in the batch's ``bad``.
    """

    def __init__(
        self,
        shards: ImageShards,
        *,
        order: Shuffled | Streamed,
        size_px: int,
        flip: bool,
        seed: int,
        tokenize: Tokenize | None = None,
    ) -> None:
        self.shards, self.order = shards, order
        self.size_px, self.flip, self.seed = size_px, flip, seed
        self.tokenize = tokenize
        self.counts, self.sizes_px = [len(shards)], [(size_px, size_px)]
        self.buckets = OneBucket()

    def __getitem__(self, slot: Slot) -> ImageBatch:
        step, index = slot.step, slot.index
        bad: list[Bad] = []
        read = [self._read(i, bad) for i in self.order.positions(index).tolist()]
        image = torch.stack([picture for picture, _ in read])
        if self.flip:
            mirrored = uniform(stream(self.seed, "flip"), index) < 0.5
            image = torch.where(mirrored.view(-1, 1, 1, 1), image.flip(-1), image)
        ids = torch.empty(len(index), 0, dtype=torch.int64)
        if self.tokenize is not None:
            ids = self.tokenize(self._chosen(index, [sample.captions for _, sample in read]))
        return ImageBatch(step, index, image, ids, micro_steps=slot.micro_steps, bad=tuple(bad))

    def describe(self, slot: Slot) -> list[dict[str, Any]]:
        """Key and caption of each sample of a slot, as it was drawn."""
        positions = self.order.positions(slot.index).tolist()
        captions = self._chosen(slot.index, [self.shards.captions(i) for i in positions])
        keys = [self.shards.key(i) for i in positions]
        return [{"key": k, "caption": c} for k, c in zip(keys, captions, strict=True)]

    def _chosen(self, index: Tensor, several: Sequence[tuple[str, ...]]) -> list[str]:
        choice = uniform(stream(self.seed, "caption"), index).tolist()
        return [
            captions[int(u * len(captions))] for u, captions in zip(choice, several, strict=True)
        ]

    def _read(self, i: int, bad: list[Bad]) -> tuple[Tensor, Sample]:
        """The picture at position i or, with a word in ``bad``, the next that can be used."""
        for _ in range(min(_MAX_BAD_IN_A_ROW, len(self.shards))):
            key = self.shards.key(i)  # a shard that cannot be fetched is no bad picture
            try:
                sample = self.shards.read(i, at_least_px=self.size_px)
                return crop(sample.image, self.size_px), sample
            except ValueError as error:
                bad.append(Bad(key, str(error.__cause__ or error)))
            i = (i + 1) % len(self.shards)
        raise ValueError(f"no usable picture among {len(bad)} in {self.shards.root}: {bad[-1][1]}")


def crop(image: np.ndarray, size_px: int) -> Tensor:
    """The middle square of a picture (H, W, C), scaled down to (C, size_px, size_px) in [-1, 1].

    One of that size already stays as it is. ValueError if it is smaller.
    """
    height, width = image.shape[:2]
    if min(height, width) < size_px:
        raise ValueError(
            f"a picture of {width}x{height} px is smaller than size={size_px}; prepare the shards "
            f"with `data.size_px={size_px}` or train at a smaller size."
        )
    return to_tensor(fit(image, (size_px, size_px)))


class LatentBatches(Dataset[LatentBatch]):
    """Codes, ids and sizes gathered from a latent cache.

    The choice among a sample's variants and captions is keyed by the global index (law 1).
    """

    def __init__(self, cache: LatentCache, *, order: InBuckets | Once, seed: int) -> None:
        self.cache, self.order, self.seed = cache, order, seed
        self.counts, self.sizes_px = cache.counts, cache.sizes_px

    @property
    def buckets(self) -> Buckets:
        """Which bucket each step reads; held-out data is not read by steps."""
        assert isinstance(self.order, InBuckets)
        return self.order

    def __getitem__(self, slot: Slot) -> LatentBatch:
        step, index = slot.step, slot.index
        bucket, rows = self.order.place(step, index)
        found = self.cache.gather(
            bucket, rows, lambda name: uniform(stream(self.seed, name), index)
        )
        return LatentBatch(step, index, *found, micro_steps=slot.micro_steps)

    def describe(self, slot: Slot) -> list[dict[str, Any]]:
        """Where in the shards each sample of a slot comes from."""
        bucket, rows = self.order.place(slot.step, slot.index)
        positions = self.cache.arrays[bucket]["samples"][rows.numpy()]
        return [{"position": i} for i in positions.tolist()]


def train_loader(
    batches: Batches,
    shares: Sequence[Share],
    *,
    start_step: int,
    stop_step: int,
    workers: int,
) -> DataLoader:
    """Micro-batches of one rank in order, from ``start_step`` to ``stop_step`` (exclusive).

    ``shares`` are the rank's parts of a global batch by bucket. The stream is the same for any
    number of ``workers``.
    """
    if workers:
        start_server()
    return DataLoader(
        batches,  # type: ignore[arg-type]
        sampler=StepSampler(shares, batches.buckets, start_step=start_step, stop_step=stop_step),
        batch_size=None,
        num_workers=workers,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=CONTEXT if workers else None,
        worker_init_fn=begin if workers else None,
    )
