"""The files of a latent cache in the making: laid out first, filled in blocks, then closed.

``layout.json`` says what the directory is being made from, ``blocks.npy`` which blocks are in it,
with their part of the statistics; ``lock`` is held by the command that makes it. All three are
gone when the whole is there.
"""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldm.data.latents.blocks import Blocks
from ldm.data.latents.cache import KIND, bucket_folder
from ldm.data.latents.crop import Variants
from ldm.data.latents.identity import refuse_difference
from ldm.data.latents.plan import Plan
from ldm.data.latents.sizes import COUNT
from ldm.data.shards.reader import ImageShards
from ldm.disk import free_bytes
from ldm.manifest import Manifest, atomic, read_json, write_json, write_manifest

EXAMPLES = 64  # captions kept in the manifest, for previews
LAYOUT, BLOCKS, LOCK = "layout.json", "blocks.npy", "lock"
_COMMIT_SECONDS = 1.0  # how much work a power cut may cost


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What becomes of a picture and its captions; small and picklable."""

    codes_per_latent: int
    latent_channels: int
    stride: int  # pixels per latent, along each side
    variants: Variants
    with_sizes: bool
    ids: tuple[int, ...]  # shape of a caption's ids
    tokens: tuple[int, int] | None  # shape of a caption's stored states, likewise its vector
    vector: int | None
    block: int  # samples that are encoded together

    def arrays(
        self, size_px: tuple[int, int], samples: int, captions: int
    ) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of each array of a bucket."""
        count, sides = self.variants.count, [side // self.stride for side in size_px]
        channels = self.codes_per_latent * self.latent_channels
        found: dict[str, tuple[str, tuple[int, ...]]] = {
            "codes": ("<f2", (samples, count, channels, *sides)),
            "sizes": ("<i4", (samples, count, COUNT if self.with_sizes else 0)),
            "ids": ("<u2", (captions, *self.ids)),
        }
        if self.tokens is not None:
            found["tokens"] = ("<f2", (captions, *self.tokens))
        if self.vector is not None:
            found["vector"] = ("<f2", (captions, self.vector))
        return found


def lay_out(
    directory: str | Path,
    shards: ImageShards,
    plan: Plan,
    contents: Contents,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, str]],
) -> int:
    """Make room for everything, or take up what an interrupted run has left; bytes of the whole.

    ValueError where that was another cache, or where the disk has not the room.
    """
    directory = Path(directory)
    made_from = {name: value["fingerprint"] for name, value in inputs.items()}
    captions = [int(shards.caption_counts[b.samples].sum()) for b in plan.buckets]
    arrays = [
        contents.arrays(bucket.size_px, len(bucket.samples), count)
        for bucket, count in zip(plan.buckets, captions, strict=True)
    ]
    size = sum(
        np.dtype(kind).itemsize * int(np.prod(shape, dtype=np.int64))
        for of_bucket in arrays
        for kind, shape in of_bucket.values()
    )
    if (directory / LAYOUT).is_file():
        begun = read_json(directory / LAYOUT)
        if (directory / BLOCKS).is_file():  # the last one made: everything is laid out
            if np.load(directory / BLOCKS, mmap_mode="r")["done"].any():
                refuse_difference(
                    directory, "was begun", begun["settings"], begun["inputs"], settings, inputs
                )
            if (begun["settings"], begun["inputs"]) == (dict(settings), made_from):
                return size
            (directory / BLOCKS).unlink()
        for height, width in begun["shapes"]:  # of which nothing was done
            shutil.rmtree(bucket_folder(directory, (height, width)), ignore_errors=True)
        (directory / LAYOUT).unlink()
    _require_room(directory, size)
    shapes = [bucket.size_px for bucket in plan.buckets]
    made = {"settings": dict(settings), "inputs": made_from, "shapes": shapes}
    write_json(directory / LAYOUT, made)  # first: it says what to remove, should the rest fail
    for bucket, of_bucket in zip(plan.buckets, arrays, strict=True):
        folder = bucket_folder(directory, bucket.size_px)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "samples.npy", bucket.samples)
        counts = shards.caption_counts[bucket.samples]
        np.save(folder / "first_caption.npy", np.concatenate([[0], counts.cumsum(dtype=np.int64)]))
        for name, (kind, shape) in of_bucket.items():
            _create(folder / f"{name}.npy", np.dtype(kind), shape)
    channels = (contents.latent_channels,)
    state = [("done", "u1"), ("truncated", "<i8"), ("first", "<f8", channels),
             ("second", "<f8", channels)]  # fmt: skip
    blocks = Blocks([len(bucket.samples) for bucket in plan.buckets], contents.block)
    _create(directory / BLOCKS, np.dtype(state), (len(blocks),))
    return size


class CacheFiles:
    """The files of a cache that has been laid out, opened to be filled by one of the processes."""

    def __init__(self, directory: Path, shapes: list[tuple[int, int]], contents: Contents) -> None:
        self.shapes, self.contents = shapes, contents
        self.state = np.load(directory / BLOCKS, mmap_mode="r+")
        self.arrays: list[dict[str, NDArray[Any]]] = []
        for shape in shapes:
            folder = bucket_folder(directory, shape)
            names = contents.arrays(shape, 0, 0)
            self.arrays.append(
                {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in names}
                | {"first_caption": np.load(folder / "first_caption.npy", mmap_mode="r")}
            )
        self.blocks = Blocks(
            [len(arrays["first_caption"]) - 1 for arrays in self.arrays], contents.block
        )
        self._lengths = self.blocks.lengths()
        self._pending: list[int] = []
        self._committed = time.monotonic()

    def missing(self, rank: int, world_size: int) -> list[int]:
        """The blocks of one process that are not there yet."""
        todo = np.flatnonzero(self.state["done"] == 0)
        return todo[todo % world_size == rank].tolist()

    def num_done(self) -> int:
        """Samples of the blocks that are there, whoever made them."""
        return int(self._lengths[self.state["done"] == 1].sum())

    def put(self, number: int, rows: Mapping[str, NDArray[Any]], **state: Any) -> None:
        """Write a block's rows and its part of the statistics; it counts once it is on the disk."""
        block = self.blocks[number]
        arrays = self.arrays[block.bucket]
        first, last = arrays["first_caption"][[block.start, block.stop]].tolist()
        for name, values in rows.items():
            here = (block.start, block.stop) if name in ("codes", "sizes") else (first, last)
            arrays[name][slice(*here)] = values
        for name, value in state.items():
            self.state[name][number] = value
        self._pending.append(number)
        if time.monotonic() - self._committed > _COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Data to the disk first, then the flags that say so."""
        for number in {self.blocks[number].bucket for number in self._pending}:
            for name in self.contents.arrays(self.shapes[number], 0, 0):
                self.arrays[number][name].flush()  # type: ignore[attr-defined]
        self.state.flush()
        self.state["done"][self._pending] = 1
        self.state.flush()
        self._pending, self._committed = [], time.monotonic()


def finish(
    directory: str | Path,
    shards: ImageShards,
    plan: Plan,
    contents: Contents,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, str]],
    facts: Mapping[str, Any],
) -> Manifest:
    """The manifest of a cache that is full, with statistics over every variant; ``facts`` join."""
    directory = Path(directory)
    files = CacheFiles(directory, [bucket.size_px for bucket in plan.buckets], contents)
    if missing := int((files.state["done"] == 0).sum()):
        raise ValueError(
            f"{missing} of {len(files.state)} blocks of {directory} are missing; run the same "
            "command again to go on."
        )
    count = sum(
        arrays["codes"].size / (contents.codes_per_latent * contents.latent_channels)
        for arrays in files.arrays
    )
    mean, second = (files.state[name].sum(axis=0) / count for name in ("first", "second"))
    std = np.sqrt(np.maximum(second - mean**2, 1e-12))
    buckets = [
        {"height_px": bucket.size_px[0], "width_px": bucket.size_px[1],
         "samples": len(bucket.samples), "largest_cut": bucket.largest_cut}
        for bucket in plan.buckets
    ]  # fmt: skip
    examples = [shards.captions(i)[0] for i in range(min(EXAMPLES, len(shards)))]
    manifest = write_manifest(
        directory,
        kind=KIND,
        settings=settings,
        inputs=inputs,
        facts={
            "num_samples": len(shards),
            "buckets": buckets,
            "mean": mean.tolist(),
            "std": std.tolist(),
            "truncated_captions": int(files.state["truncated"].sum()),
            "examples": examples,
            **facts,
        },
    )
    remove_traces(directory)
    return manifest


def remove_traces(directory: str | Path) -> None:
    """Remove what is of no use once the manifest is there; a kill may have left it."""
    for path in (Path(directory) / BLOCKS, Path(directory) / LAYOUT):
        if path.is_file():  # a finished cache may lie where nothing can be written
            path.unlink(missing_ok=True)


def _require_room(directory: Path, size: int) -> None:
    free = free_bytes(directory)
    if free < size:
        raise ValueError(
            f"{directory} needs {size / 1e9:,.2f} GB and {free / 1e9:,.2f} GB are free; choose "
            "another disk with out=, a smaller size=, or fewer crops."
        )


def _create(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """A file of zeros in .npy format. A full disk is an error now, not a bus error at some page."""
    with atomic(path) as temporary:  # whoever has an older file open does not write into this one
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # macOS has not
            with temporary.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
