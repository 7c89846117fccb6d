"""Which pictures a set holds, whatever they were read from: a hash over their pixels."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.apps.evaluations.measure import RECONSTRUCTIONS, REFERENCE, SAMPLES, Block
from ldm.features.quantise import to_uint8
from ldm.features.rgb import as_rgb
from ldm.manifest import fingerprint
from ldm.metrics.notes import Notes, Rows


class Pixels:
    """Notes 16 bytes that stand for each picture, and for its original where there is one.

    Pictures in memory, as PNG and in shards have the same, grey ones as in colour.
    """

    name = "pixels"

    def __init__(self) -> None:
        self.protocol: dict[str, Any] = {
            "digest": "blake2b of height, width, channels and 8-bit RGB"
        }

    def __call__(self, block: Block) -> Rows:
        rows = {"digest": _digests(block.images)}
        if block.originals is not None:
            rows["original"] = _digests(block.originals)
        return rows


def hash_of(notes: Notes, pictures: str) -> str:
    """16 hex digits that stand for a set in its order; of reconstructions, for their originals."""
    whole = hashlib.sha256()
    for digests in notes.blocks("original" if pictures == RECONSTRUCTIONS else "digest"):
        whole.update(digests.numpy().tobytes())
    return whole.hexdigest()[:16]


def judged(
    pictures: str, made: Mapping[str, Any], pixels: str, count: int, captions: Sequence[str]
) -> dict[str, Any]:
    """What a record says of the set that is judged: how it was made, and which pictures it has."""
    if pictures == SAMPLES:
        prompts = fingerprint(list(captions)) if any(captions) else "none"
        return {**made, "samples": pixels, "n": count, "prompts": prompts}
    return {**made, "pictures": pixels, "n": count}


def compared_with(
    pictures: str, made: Mapping[str, Any], pixels: str, count: int
) -> dict[str, Any]:
    """The same of a set beside it, under keys that name that set, as in reference_is.steps."""
    number = "n_real" if pictures == REFERENCE else f"n_{pictures}"
    how = {f"{pictures}_is": dict(made)} if made else {}
    return {pictures: pixels, number: count, **how}


def _digests(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        images = as_rgb(images)
    pixels = to_uint8(images).movedim(1, -1).contiguous().cpu()  # (B, H, W, C)
    shape = " ".join(map(str, pixels.shape[1:])).encode()
    found = [hashlib.blake2b(shape + p.numpy().tobytes(), digest_size=16) for p in pixels]
    return torch.tensor([list(digest.digest()) for digest in found], dtype=torch.uint8)
