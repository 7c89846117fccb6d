"""What a source of captioned pictures is: the vocabulary between sources and image shards."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

TRAIN, HELD_OUT = "train", "held_out"


class Sample(NamedTuple):
    """A captioned picture."""

    key: str  # unique within its source; no dots (webdataset ends a key at the first dot)
    image: NDArray[np.uint8]  # (H, W, 3) sRGB
    caption: str  # "" for unconditional pictures
    meta: dict[str, Any]  # JSON-able: original_width, original_height and the source's labels


class Bad(NamedTuple):
    """A picture that was left out, and the short reason by which it is counted."""

    key: str  # the key it would have had, or the path a person knows it by
    reason: str


class Source(Protocol):
    """Where captioned pictures come from: two splits in a fixed order, the same at each call."""

    def settings(self) -> dict[str, Any]:
        """What determines every sample, JSON-able, with a fingerprint of any input on disk."""
        ...

    def splits(self) -> dict[str, int]:
        """How many samples, good and bad, each split yields: {"train": n, "held_out": m}."""
        ...

    def samples(self, split: str) -> Iterator[Sample | Bad]:
        """The samples of a split; what cannot be used comes as ``Bad`` instead of raising."""
        ...
