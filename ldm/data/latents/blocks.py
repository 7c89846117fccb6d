"""Blocks of pictures on their way into a latent cache: read, decoded, cut, ready to be encoded."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ldm.data.images import to_tensor
from ldm.data.latents.cache import bucket_folder
from ldm.data.latents.crop import Variants, cut
from ldm.data.latents.sizes import COUNT, picture_sizes
from ldm.data.shards.reader import ImageShards


class Block(NamedTuple):
    """Rows of one bucket that are encoded together."""

    bucket: int
    start: int
    stop: int


class Blocks:
    """All blocks of buckets with ``counts`` samples: always the same, whoever encodes them."""

    def __init__(self, counts: list[int], size: int) -> None:
        self.counts, self.size = counts, size
        self._ends = np.cumsum([-(-count // size) for count in counts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def lengths(self) -> NDArray[np.int64]:
        """The samples of each block."""
        parts = [np.diff(np.append(np.arange(0, count, self.size), count)) for count in self.counts]
        return np.concatenate(parts)

    def __getitem__(self, number: int) -> Block:
        bucket = int(self._ends.searchsorted(number, side="right"))
        start = (number - (int(self._ends[bucket - 1]) if bucket else 0)) * self.size
        return Block(bucket, start, min(start + self.size, self.counts[bucket]))


class Pictures(NamedTuple):
    """A block's samples, n of them in V variants."""

    pixels: Tensor  # (n V, H, W, C) uint8, uint16 or float32, as ``images.to_tensor`` takes them
    sizes: NDArray[np.int32]  # (n, V, K)
    captions: list[tuple[str, ...]]  # n
    positions: list[int]  # n, in the shards


class PictureBlocks(Dataset[Pictures]):
    """The pictures of each block by its number; any process may read them.

    ``shapes`` are heights and widths of the buckets; ``directory`` has their ``samples.npy``.
    """

    def __init__(
        self,
        shards: ImageShards,
        blocks: Blocks,
        shapes: list[tuple[int, int]],
        *,
        directory: Path,
        variants: Variants,
        with_sizes: bool,
    ) -> None:
        self.shards, self.blocks, self.shapes, self.directory = shards, blocks, shapes, directory
        self.variants, self.with_sizes = variants, with_sizes

    def __getitem__(self, number: int) -> Pictures:
        bucket, start, stop = self.blocks[number]
        shape = self.shapes[bucket]
        samples = np.load(bucket_folder(self.directory, shape) / "samples.npy", mmap_mode="r")
        positions = samples[start:stop].tolist()
        sizes = np.zeros(
            (len(positions), self.variants.count, COUNT if self.with_sizes else 0), np.int32
        )
        pixels, captions = [], []
        for row, position in enumerate(positions):
            stored = self.shards.size(position)
            crops = self.variants.of(position, stored, shape)
            sample = self.shards.read(position, at_least_px=min(crops[0].scaled))
            pixels += [cut(sample.image, crop) for crop in crops]
            captions.append(sample.captions)
            if self.with_sizes:
                sizes[row] = [picture_sizes(sample.key, sample.meta, stored, c) for c in crops]
        if len({picture.dtype for picture in pixels}) > 1:  # which the encoder reads as one type
            pixels = [to_tensor(picture).movedim(0, -1).numpy() for picture in pixels]
        return Pictures(torch.from_numpy(np.stack(pixels)), sizes, captions, positions)
