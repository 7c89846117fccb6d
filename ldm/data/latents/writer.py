"""Filling a latent cache: pictures and captions of one block after the other become its rows.

Any number of processes share the blocks. A block is always the same samples, encoded together, so
the bytes do not depend on who made which or on how often the work was interrupted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ldm.data.latents.blocks import PictureBlocks, Pictures
from ldm.data.latents.files import CacheFiles, Contents
from ldm.data.shards.reader import ImageShards


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """The networks that fill a cache, on their device."""

    # pixels (B, H, W, C) -> a function that waits for their codes (B, S, h, w), on the CPU
    encode: Callable[[Tensor], Callable[[], Tensor]]
    # codes -> mean and variance of the latents (B, C, h, w), for the statistics
    moments: Callable[[Tensor], tuple[Tensor, Tensor]]
    tokenize: Callable[[Sequence[str]], Tensor]
    is_truncated: Callable[[str], bool]
    # ids (B, ...) -> states (B, L, D) and pooled vector (B, W); None stores ids alone
    features: Callable[[Tensor], tuple[Tensor | None, Tensor | None]] | None


def fill(
    shards: ImageShards,
    directory: str | Path,
    shapes: list[tuple[int, int]],
    contents: Contents,
    encoders: Encoders,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> Iterator[int]:
    """Encode one process's blocks that are missing; yields how many samples are in the cache.

    ``workers`` processes decode ahead; with 0 this one does it. ValueError on a latent or a text
    feature that is not finite in fp16, naming its sample.
    """
    files = CacheFiles(Path(directory), shapes, contents)
    todo = files.missing(rank, world_size)
    pictures = PictureBlocks(
        shards, files.blocks, shapes, directory=Path(directory), variants=contents.variants,
        with_sizes=contents.with_sizes,
    )  # fmt: skip
    loader = DataLoader(
        pictures,
        sampler=todo,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=torch.cuda.is_available() and workers > 0,
        multiprocessing_context="forkserver" if workers else None,
    )
    done = files.num_done()
    yield done
    try:
        waiting: tuple[int, Pictures, list[Callable[[], Tensor]]] | None = None
        for number, read in zip(todo, loader, strict=True):
            # A GPU works on this block while the last one is written.
            codes = [encoders.encode(part) for part in read.pixels.split(contents.block)]
            if waiting is not None:
                done += _put(files, encoders, shards, *waiting)
                yield done
            waiting = number, read, codes
        if waiting is not None:
            done += _put(files, encoders, shards, *waiting)
            files.commit()
            yield done
    finally:
        files.commit()


def _as_it_is(read: Any) -> Any:
    """In place of a conversion that would walk through every caption; a function, to be sent."""
    return read


def _put(
    files: CacheFiles,
    encoders: Encoders,
    shards: ImageShards,
    number: int,
    read: Pictures,
    codes: list[Callable[[], Tensor]],
) -> int:
    """Store an encoded block; the number of its samples."""
    count = files.contents.variants.count
    code = torch.cat([wait() for wait in codes]).half()
    code = code.view(-1, count, *code.shape[1:])
    _require_finite(code, read.positions, shards, "latent")
    mean, variance = encoders.moments(code.flatten(0, 1).double())
    captions = [caption for of_sample in read.captions for caption in of_sample]
    ids = encoders.tokenize(captions)
    rows = {"codes": code.numpy(), "sizes": read.sizes, "ids": ids.numpy()}
    if encoders.features is not None:
        owners = [p for p, own in zip(read.positions, read.captions, strict=True) for _ in own]
        parts = [encoders.features(part) for part in ids.split(files.contents.block)]
        for name, values in zip(("tokens", "vector"), zip(*parts, strict=True), strict=True):
            if values[0] is not None:
                feature = torch.cat(values).half()
                _require_finite(feature, owners, shards, f"text feature ({name})")
                rows[name] = feature.numpy()
    files.put(
        number,
        rows,
        truncated=sum(map(encoders.is_truncated, captions)),
        first=mean.sum(dim=(0, 2, 3)).numpy(),
        second=(mean.square() + variance).sum(dim=(0, 2, 3)).numpy(),
    )
    return len(read.positions)


def _require_finite(values: Tensor, owners: list[int], shards: ImageShards, what: str) -> None:
    finite = values.isfinite().flatten(1).all(1)
    if not finite.all():
        bad = shards.key(owners[int((~finite).nonzero()[0])])
        raise ValueError(
            f"the {what} of sample {bad!r} is not finite in fp16; "
            + (
                "the autoencoder diverged. Train it again with a lower lr or a larger kl_weight."
                if what == "latent"
                else "use store=ids."
            )
        )
