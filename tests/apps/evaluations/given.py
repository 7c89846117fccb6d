"""Small sets of pictures that are measured without a command: a setting and its notes."""

import torch

from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import REFERENCE, Block
from ldm.metrics.frechet import moments
from ldm.metrics.notes import NotesInMemory


class Pixels:
    """Notes the first pixels as features and as logits."""

    name = "pixels"
    num_features = 12

    def __init__(self, resize="none"):
        self.protocol = {"features": "pixels", "resize": resize}

    def __call__(self, block):
        features = block.images.flatten(1)[:, : self.num_features]
        return {"features": features, "logits": 4 * features}


class Given:
    """Both ``Setting`` and ``Noted`` of the sets of pictures that are given, or of statistics."""

    weights_dir = "weights"
    allow_unknown_weights = False

    def __init__(self, statistics=None, **sets):
        self.sets, self.statistics, self.kept = sets, statistics, {}

    def count(self, pictures):
        if pictures not in self.sets:
            raise UserError(f"there are no {pictures}")
        return len(self.sets[pictures])

    def __call__(self, pictures, observer):
        if pictures == REFERENCE and self.statistics is not None:
            return self.statistics.notes(observer.name, observer.protocol)
        blocks = enumerate(self.sets[pictures].split(16))
        return NotesInMemory({i: observer(Block(some, [""] * len(some))) for i, some in blocks})

    def moments(self, pictures, observer, name):
        if pictures == REFERENCE and self.statistics is not None:
            return self.statistics.moments(observer.name, observer.protocol, name)
        return moments(self(pictures, observer).blocks(name))

    def protocol(self, *pictures):
        return dict.fromkeys(pictures, "hash")

    def keep(self, name, value):
        self.kept[name] = value


def numbers(measure, given):
    """The values of a measure by their names, of which each carries its protocol."""
    found = {number.name: number for number in measure.numbers(given)}
    for number in found.values():
        assert number.protocol["features"] == "pixels"
    return found


def pictures(count, seed=0, shift=0.0):
    """(count, 3, 4, 4) of random pixels in [-1, 1]."""
    noise = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (0.3 * noise + shift).clamp(-1, 1)
