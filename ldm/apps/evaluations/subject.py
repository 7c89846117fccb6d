"""What is evaluated: a model, its pictures, and the real ones they are compared with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ldm.data.batches import crop
from ldm.data.shards.reader import ImageShards
from ldm.generation import TextToImage

BLOCK = 64

Found = Iterator[tuple[str, float, dict[str, Any]]]
"""Measured numbers: (name, value, protocol).

A measure is a function of a subject: called, it checks that it can measure; iterated, it does.
"""


@dataclass
class Subject:
    """Generated images (N, 3, H, W) with their prompts, and held-out shards with captions.

    The images are drawn when they are first asked for: what a measure lacks, it must say before.
    ``generation`` says how they are made; a protocol is put together from the properties below,
    each of which says what its pictures are.
    """

    model: TextToImage
    draw: Callable[[], Tensor]
    prompts: list[str]
    train: ImageShards
    held_out: ImageShards
    weights_dir: str
    generation: dict[str, Any]

    @property
    def generated_protocol(self) -> dict[str, Any]:
        """For a number on the generated images."""
        prompts = f"captions of {self._held_out}"
        if len(self.prompts) > len(self.held_out):
            prompts += f", then of training shards {self.train.manifest.fingerprint}"
        if not any(self.prompts):
            prompts = "none"
        return self.generation | {"prompts": prompts, "n": len(self.prompts)}

    @property
    def real_protocol(self) -> dict[str, Any]:
        """For a number on held-out pictures."""
        return {"pictures": self._held_out, "n": self.num_real}

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
        reference = {"reference": self._held_out, "n_real": self.num_real}
        return self.generated_protocol | reference

    @property
    def _held_out(self) -> str:
        kind = "training" if self.held_out is self.train else "held-out"
        return f"{kind} shards {self.held_out.manifest.fingerprint}"

    @cached_property
    def images(self) -> Tensor:
        """The generated images."""
        return self.draw()

    @property
    def num_real(self) -> int:
        """As many held-out pictures as there are generated ones, at most."""
        return min(len(self.held_out), len(self.prompts))

    @cached_property
    def real(self) -> Tensor:
        """The first held-out pictures (num_real, 3, H, W) in [-1, 1]."""
        size_px = self.model.size_px
        return torch.stack([crop(self.held_out[i].image, size_px) for i in range(self.num_real)])

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
