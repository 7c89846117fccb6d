"""Image shards as a set of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import Block
from ldm.apps.evaluations.sets import in_words, rounded, stamp_of
from ldm.data.batches import crop
from ldm.data.images import to_tensor
from ldm.data.shards.reader import ImageShards
from ldm.manifest import FILE_NAME as MANIFEST
from ldm.manifest import fingerprint


@dataclass(frozen=True)
class ShardPictures:
    """The first ``count`` pictures of shards: their middle squares as a model sees them, or whole.

    ``given`` are captions in place of those in the shards.
    """

    shards: ImageShards
    count: int
    square_px: int | None  # None: as they are stored
    about: dict[str, Any]
    given: Sequence[str] | None = None

    @cached_property
    def size_px(self) -> tuple[int, int]:
        if self.square_px is not None:
            return self.square_px, self.square_px
        if not self.count:
            raise UserError(
                f"{self.shards.root} holds no pictures: its shards have none that ends in .png, "
                ".jpg, .jpeg, .webp or .npy."
            )
        sizes = self.shards.sizes()[: self.count]
        first = (int(sizes[0, 0]), int(sizes[0, 1]))
        others = (sizes != sizes[0]).any(1)
        if others.any():
            i = int(others.argmax())
            raise UserError(
                f"{self.shards.root}: {self.shards.key(i)} is "
                f"{in_words((int(sizes[i, 0]), int(sizes[i, 1])))} (height x width), and "
                f"{self.shards.key(0)} is {in_words(first)}: pictures of one set have one size. "
                f"Make them so with `ldm prepare data=webdataset data.path={self.shards.root} "
                "data.size_px=... out=SHARDS`."
            )
        return first

    @cached_property
    def protocol(self) -> dict[str, Any]:
        stored = (self.shards.size(i) for i in range(self.count))
        if self.square_px is None or all(size == self.size_px for size in stored):
            return self.about
        return {**self.about, "crop": f"middle square, Lanczos to {self.square_px} px"}

    @cached_property
    def captions(self) -> Sequence[str]:
        if self.given is not None:
            return self.given[: self.count]
        return list(self.shards.first_captions(self.count))

    @property
    def identity(self) -> dict[str, Any]:
        given = None if self.given is None else fingerprint(list(self.given))
        return {
            "shards": self.shards.manifest.fingerprint,
            "files": _stamp(self.shards),
            "count": self.count,
            "square_px": self.square_px,
            "captions": given,
        }

    def images(self, rows: range) -> Tensor:
        read = (self.shards[i].image for i in rows)
        if self.square_px is None:
            return torch.stack([to_tensor(image) for image in read])
        return torch.stack([crop(image, self.square_px) for image in read])

    def block(self, rows: range) -> Block:
        caption = self.shards.caption if self.given is None else self.given.__getitem__
        return rounded(self.images(rows), [caption(i) for i in rows])

    def is_kept(self, rows: range) -> bool:
        return True

    def changed(self, rows: range) -> float:
        return 0.0


def _stamp(shards: ImageShards) -> str | None:
    """What tells shards of another tool from later ones of their names; ours have a hash each."""
    root = Path(shards.root)
    if shards.is_remote or (root / MANIFEST).is_file():
        return None
    return stamp_of(root, [root / name for name in shards.files])
