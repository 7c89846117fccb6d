"""A ``Setting`` and a ``Noted`` for tests of observers and measures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import REFERENCE, Block, NotGiven, Observer
from ldm.data.shards.reader import ImageShards
from ldm.metrics.frechet import Moments, moments
from ldm.metrics.notes import Notes, NotesInMemory
from ldm.metrics.statistics import Statistics
from ldm.text.clip import ClipTowers


def block(count: int, *, size_px: int = 32, captions: Sequence[str] = (), seed: int = 0) -> Block:
    """Random pictures on the levels of 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (count, 3, size_px, size_px), generator=generator)
    return Block(levels.float() / 127.5 - 1, captions or [""] * count)


def own_towers() -> ClipTowers:
    torch.manual_seed(0)
    return ClipTowers(
        embed_dim=16,
        vision={"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        text={"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
        quick_gelu=False,
        states="last",
    ).eval()


@dataclass
class Given:
    """What there is: blocks by the set of pictures, own towers or none, a folder of weights."""

    blocks: dict[str, list[Block]] = field(default_factory=dict)
    own: ClipTowers | None = None
    weights_dir: str = "weights"
    allow_unknown_weights: bool = False
    statistics: Statistics | None = None  # instead of reference pictures
    kept: dict[str, Any] = field(default_factory=dict)

    def count(self, pictures: str) -> int:
        if pictures not in self.blocks:
            raise NotGiven(f"there are no {pictures}")
        return sum(len(each.images) for each in self.blocks[pictures])

    def captions(self, pictures: str) -> Sequence[str]:
        found = [caption for each in self.blocks.get(pictures, []) for caption in each.captions]
        if not any(found):
            raise NotGiven(f"the {pictures} have no captions")
        return found

    def towers(self) -> ClipTowers:
        if self.own is None:
            raise UserError("there are no own towers")
        return self.own

    def shards(self) -> tuple[ImageShards, ImageShards]:
        raise UserError("there are no shards")

    def __call__(self, pictures: str, observer: Observer) -> Notes:
        """The notes: this is ``Noted``, too."""
        if pictures == REFERENCE and self.statistics is not None:
            return self.statistics.notes(observer.name, observer.protocol)
        return NotesInMemory({i: observer(each) for i, each in enumerate(self.blocks[pictures])})

    def moments(self, pictures: str, observer: Observer, name: str) -> Moments:
        if pictures == REFERENCE and self.statistics is not None:
            return self.statistics.moments(observer.name, observer.protocol, name)
        return moments(self(pictures, observer).blocks(name))

    def keep(self, name: str, value: Any) -> None:
        self.kept[name] = value

    def protocol(self, *pictures: str) -> dict[str, Any]:
        return {name: f"the {name}" for name in pictures}


def weights_in(folder: Path) -> Given:
    """With random weights in a folder, which are not the published ones."""
    return Given(weights_dir=str(folder), allow_unknown_weights=True)
