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
"""Measured numbers: (name, value, protocol)."""


@dataclass
class Subject:
    """Generated images (N, 3, H, W) with their prompts, and held-out shards with captions.

    ``generation`` says how the images were made; a protocol is put together from the properties
    below, each of which says what its pictures are.
    """

    model: TextToImage
    towers: ClipTowers
    images: Tensor
    prompts: list[str]
    train: ImageShards
    held_out: ImageShards
    weights_dir: str
    generation: dict[str, Any]

    @property
    def generated_protocol(self) -> dict[str, Any]:
        """For a number on the generated images."""
        prompts = f"captions of held-out shards {self.held_out.manifest.fingerprint}"
        if len(self.images) > len(self.held_out):
            prompts += f", then of training shards {self.train.manifest.fingerprint}"
        return self.generation | {"prompts": prompts, "n": len(self.images)}

    @property
    def real_protocol(self) -> dict[str, Any]:
        """For a number on held-out pictures."""
        return {"pictures": self.held_out.manifest.fingerprint, "n": len(self.real)}

    @property
    def reconstructed_protocol(self) -> dict[str, Any]:
        """For a number on reconstructions of held-out pictures."""
        return self.real_protocol | {
            "autoencoder": self.generation["autoencoder"],
            "latent": "posterior mode",
        }

    @property
    def compared_protocol(self) -> dict[str, Any]:
        """For a number that compares the generated images with held-out pictures."""
        reference = {"reference": self.held_out.manifest.fingerprint, "n_real": len(self.real)}
        return self.generated_protocol | reference

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
