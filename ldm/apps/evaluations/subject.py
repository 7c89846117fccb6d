"""What is evaluated: a model, its pictures, and the real ones they are compared with."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ldm.data.batches import crop
from ldm.data.shards import ImageShards
from ldm.generation import TextToImage
from ldm.text.clip import ClipTowers

BLOCK = 64

Found = Iterator[tuple[str, float, dict[str, Any]]]
"""Measured numbers: (name, value, what only this number's protocol says)."""


@dataclass
class Subject:
    """Generated images (N, 3, H, W) with their prompts, and held-out shards with captions."""

    model: TextToImage
    towers: ClipTowers
    images: Tensor
    prompts: list[str]
    train: ImageShards
    held_out: ImageShards
    weights_dir: str

    def blocks(self) -> Iterator[tuple[Tensor, list[str]]]:
        """The generated images with their prompts, block by block."""
        for start in range(0, len(self.images), BLOCK):
            yield self.images[start : start + BLOCK], self.prompts[start : start + BLOCK]

    @cached_property
    def real(self) -> Tensor:
        """Held-out pictures (M, 3, H, W) in [-1, 1], as many as there are generated, at most."""
        count = min(len(self.held_out), len(self.images))
        size_px = self.model.size_px
        return torch.stack([crop(self.held_out[i].image, size_px) for i in range(count)])

    @cached_property
    def reconstructions(self) -> Tensor:
        """The real pictures through the autoencoder's mode, (M, 3, H, W)."""
        autoencoder, device = self.model.autoencoder, self.model.scale.mean.device
        with torch.no_grad():
            return torch.cat(
                [
                    autoencoder.decode(
                        autoencoder.regularizer.mode(autoencoder.encode(some.to(device)))
                    ).cpu()
                    for some in self.real.split(BLOCK)
                ]
            ).clamp(-1.0, 1.0)
