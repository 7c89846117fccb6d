"""Pictures whose pixels are their features, so that measures need no network."""

import torch

from ldm.apps.evaluations.measure import Block
from tests.apps.evaluations.given import Given


class Pixels:
    """Notes the first pixels as features and as logits."""

    name = "pixels"
    num_features = 12

    def __init__(self, resize="none"):
        self.protocol = {"features": "pixels", "resize": resize}

    def __call__(self, block):
        features = block.images.flatten(1)[:, : self.num_features]
        return {"features": features, "logits": 4 * features}


def pictures(count, seed=0, shift=0.0):
    """(count, 3, 4, 4) of random pixels in [-1, 1]."""
    noise = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (0.3 * noise + shift).clamp(-1, 1)


def given(statistics=None, **sets):
    """The setting and notes of sets of pictures, in blocks of 16."""
    blocks = {name: [Block(some, [""] * 16) for some in sets[name].split(16)] for name in sets}
    return Given(blocks=blocks, statistics=statistics)


def numbers(measure, noted):
    """The numbers of a measure by their names, each of which says what the features are."""
    found = {number.name: number for number in measure.numbers(noted)}
    assert all(number.protocol["features"] == "pixels" for number in found.values())
    return found
