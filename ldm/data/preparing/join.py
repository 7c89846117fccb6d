"""Joining: the samples of all pieces, in their order, packed into the shards of a split.

Bytes are copied as they are. A shard is written under another name, synced and renamed, then noted
with its rows of the index; noted ones are passed over when it goes on.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldm.data.preparing.pieces import read_piece, samples_file
from ldm.data.shards.index import write_index
from ldm.manifest import atomic, fingerprint, write_manifest

_END = bytes(1024)  # of every tar


class Samples(NamedTuple):
    """Where all samples lie: in pieces of ``counts`` samples, ``bytes`` (N,) long each."""

    pieces: Path
    counts: NDArray[np.int64]
    bytes: NDArray[np.int64]


def join(
    samples: Samples,
    chosen: NDArray[np.int64],
    directory: Path,
    *,
    notes: Path,
    shard_bytes: int,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    removing: bool,
) -> Iterator[int]:
    """Write shards, index and manifest of the samples ``chosen`` (n,); yields the number written.

    ``removing``: pieces are deleted as soon as all that is chosen of them is noted in ``notes``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.glob(".*.tmp"):  # half a file, left where the preparation was killed
        path.unlink()
    first_of_piece = samples.counts.cumsum() - samples.counts
    shards, notes_of, removed = [], [], 0
    ends = _ends(samples.bytes[chosen], shard_bytes)
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        name = f"{number:06d}.tar"
        if not _note(notes, name).is_file():
            _write_shard(samples, first_of_piece, chosen[start:end], directory / name, notes)
        with np.load(_note(notes, name), allow_pickle=False) as note:
            entry = {"file": name, "bytes": int(note["bytes"]), "sha256": str(note["sha256"])}
        shards.append({**entry, "samples": end - start})
        notes_of.append(_note(notes, name))
        if removing:
            needed = chosen[end] if end < len(chosen) else len(samples.bytes)
            here = int(first_of_piece.searchsorted(needed, side="right")) - 1
            for piece in range(removed, here):
                samples_file(samples.pieces, piece).unlink(missing_ok=True)
            removed = here
        yield end
    write_index(directory, shards, (np.load(note)["rows"] for note in notes_of))
    content = fingerprint([shard["sha256"] for shard in shards])
    own = {"num_samples": len(chosen), "num_shards": len(shards), "content": content}
    write_manifest(directory, kind="shards", settings=settings, facts={**own, **facts})


def _ends(sizes: NDArray[np.int64], shard_bytes: int) -> list[int]:
    """Where shards end: each with the first sample by which it reaches ``shard_bytes``."""
    total = sizes.cumsum()
    ends = [0]
    while ends[-1] < len(sizes):
        before = total[ends[-1] - 1] if ends[-1] else 0
        ends.append(min(int(total.searchsorted(before + shard_bytes)) + 1, len(sizes)))
    return ends[1:]


def _note(notes: Path, name: str) -> Path:
    return notes / f"{name}.npz"


def _write_shard(
    samples: Samples,
    first_of_piece: NDArray[np.int64],
    chosen: NDArray[np.int64],
    path: Path,
    notes: Path,
) -> None:
    rows = []
    with atomic(path) as temporary, open(temporary, "wb") as file:
        written = _Hashed(file)
        which = first_of_piece.searchsorted(chosen, side="right") - 1
        for piece in np.unique(which).tolist():
            within = chosen[which == piece] - first_of_piece[piece]
            own = read_piece(samples.pieces, piece).rows[within]
            row = own["row"].copy()
            starts = written.size + own["bytes"].cumsum() - own["bytes"]
            for part in ("image", "txt", "json"):
                row[part][:, 0] += starts
            rows.append(row)
            with open(samples_file(samples.pieces, piece), "rb") as source:
                for start, size in own[["start", "bytes"]].tolist():
                    source.seek(start)
                    written.write(source.read(size))
        written.write(_END)
    with atomic(_note(notes, path.name)) as temporary, open(temporary, "wb") as file:
        np.savez(
            file, rows=np.concatenate(rows), bytes=written.size, sha256=written.hash.hexdigest()
        )


class _Hashed:
    """A file being written, with the size and hash of its content."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.hash = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.size += self.file.write(data)
        self.hash.update(data)
