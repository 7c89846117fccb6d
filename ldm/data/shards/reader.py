"""Image shards: webdataset's tar layout, read at random through an index.

A directory, or a url that one was uploaded to, holds ``000000.tar ...`` (members KEY.png or .jpg,
.webp, .npy, then KEY.txt with the first caption and KEY.json with the metadata, and all captions
where there are several), the index (``ldm.data.shards.index``) and ``manifest.json``. Any
img2dataset folder is one too: its index is made by walking the tar headers. Reading trusts nothing:
members outside the allow-list are never opened, nothing is unpickled, no URL in them is followed.
"""

import json
import os
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ldm.data.arrays import MAGIC, array_shape, decode_array
from ldm.data.images import MAX_PIXELS, decode, picture_size
from ldm.data.remote import LocalCopies
from ldm.data.shards.files import open_rows, shard_files
from ldm.data.source import Sample


class ImageShards:
    """Random access to a directory of image shards: ``shards[i]`` is a ``Sample``.

    Cheap to open and to pickle for any number of samples, and safe to fork: files are opened where
    they are read, and read by position. Those of a url are fetched into ``copies`` when a sample in
    them is asked for; fsspec's threads then leave only forkserver and spawn for other processes.
    Pictures of foreign shards come in their own size.
    ValueError with a remedy when the directory is absent or unfinished, or when a shard does not
    have the size that its index records.
    """

    def __init__(self, root: str | Path, copies: LocalCopies | None = None) -> None:
        self._files, self._copies = shard_files(root, copies), copies
        self.root = self._files.root
        (self._shards, self._rows, self._rows_hash), self.manifest = self._files.contents()
        self.shard_counts = np.array([shard["samples"] for shard in self._shards], np.int64)
        self._ends = self.shard_counts.cumsum()
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Sample:
        return self.read(i)

    def read(self, i: int, at_least_px: int | None = None) -> Sample:
        """A sample, its picture possibly reduced while decoding, but not below ``at_least_px``.

        ValueError naming shard and key where the picture cannot be decoded.
        """
        data = self._read(i, "image")
        try:
            if data.startswith(MAGIC):
                image = decode_array(data, array_shape(data)[2], MAX_PIXELS)
            else:
                image = decode(data, at_least_px=at_least_px)[..., : self.channels]
        except ValueError as error:
            raise ValueError(
                f"{self._where(i)}, sample {self.key(i)!r}: {error}. The shard is damaged; prepare "
                "it again."
            ) from error
        return Sample(self.key(i), image, self.captions(i), self.meta(i))

    def key(self, i: int) -> str:
        """The name of a sample, from the tar header before its picture."""
        name = name_before(self._descriptor(self._shard(i)), int(self._rows["image"][i, 0]))
        if name is None:
            raise ValueError(f"{self._where(i)} does not fit its index.")
        return name

    def captions(self, i: int) -> tuple[str, ...]:
        """All captions of a sample, at least one; "" for a picture without."""
        if self._rows["captions"][i] > 1:
            return tuple(self._json(i)["captions"])
        return (self._read(i, "txt").decode(errors="replace"),)

    def first_captions(self, count: int | None = None) -> Iterator[str]:
        """The first caption of the first ``count`` samples or all, read when asked for."""
        return (self.caption(i) for i in range(len(self))[:count])

    def caption(self, i: int) -> str:
        """The first caption of a sample, without decoding its picture."""
        return self._read(i, "txt").decode(errors="replace")

    def meta(self, i: int) -> dict[str, Any]:
        """The metadata of a sample, without decoding its picture."""
        meta = self._json(i)
        if self._rows["captions"][i] > 1:
            del meta["captions"]  # ours, beside the source's own columns
        return meta

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of the stored picture, as ``read`` gives it in full."""
        row = self._rows[i]
        if row["height"] > 0:
            return int(row["height"]), int(row["width"])
        data = self._read(i, "image")
        return array_shape(data)[:2] if data.startswith(MAGIC) else picture_size(data)

    def sizes(self) -> NDArray[np.int32]:
        """Height and width of every stored picture (N, 2); unknown ones are looked up."""
        sizes = np.stack([self._rows["height"], self._rows["width"]], axis=1)
        for i in np.flatnonzero(sizes[:, 0] == 0).tolist():
            sizes[i] = self.size(i)
        return sizes

    @property
    def files(self) -> list[str]:
        """The names of the shards."""
        return [shard["file"] for shard in self._shards]

    @property
    def is_remote(self) -> bool:
        """Whether they lie at a url."""
        return isinstance(self.root, str)

    def held_out(self) -> "ImageShards | None":
        """The held-out shards that lie beside these, None without any."""
        place = self._files.held_out()
        return None if place is None else ImageShards(place, self._copies)

    @property
    def caption_counts(self) -> NDArray[np.int32]:
        """How many captions each sample has (N,), at least 1."""
        counts: NDArray[np.int32] = self._rows["captions"]
        return counts

    @property
    def channels(self) -> int:
        """How many channels the pictures have, as far as known: 3 for foreign shards."""
        return int(self.manifest.settings.get("channels", 3))

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled with all its content; each process opens the file itself.
        rows = None if isinstance(self._rows, np.memmap) else self._rows
        return {**self.__dict__, "_open": OrderedDict(), "_rows": rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._rows is None:
            self._rows = open_rows(self._files, self._rows_hash)

    def __del__(self) -> None:
        for file in self.__dict__.get("_open", {}).values():
            file.close()

    def _shard(self, i: int) -> int:
        return int(self._ends.searchsorted(range(len(self))[i], side="right"))

    def _where(self, i: int) -> str:
        return f"{self.root}/{self.files[self._shard(i)]}"

    def _json(self, i: int) -> dict[str, Any]:
        meta = json.loads(self._read(i, "json") or b"{}")
        return meta if isinstance(meta, dict) else {}

    def _descriptor(self, shard: int) -> int:
        if shard not in self._open:
            if len(self._open) >= self._files.max_open:
                self._open.popitem(last=False)[1].close()
            entry = self._shards[shard]
            self._open[shard] = self._files.open(entry["file"], entry["bytes"], entry["sha256"])
        self._open.move_to_end(shard)
        return self._open[shard].fileno()

    def _read(self, i: int, part: str) -> bytes:
        offset, size = self._rows[part][i].tolist()
        if offset < 0:
            return b""
        data = os.pread(self._descriptor(self._shard(i)), size, offset)
        if len(data) != size:
            raise ValueError(f"{self._where(i)} ends early; prepare it again.")
        return data


def name_before(descriptor: int, offset: int) -> str | None:
    """The key in the tar header that ends at ``offset`` of an open file, None where there is none.

    Of a name over 100 bytes, which only other tools write, it may be the beginning.
    """
    try:
        block = os.pread(descriptor, tarfile.BLOCKSIZE, offset - tarfile.BLOCKSIZE)
        name = tarfile.TarInfo.frombuf(block, "utf-8", "replace").name
    except (tarfile.TarError, OSError):
        return None
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]
