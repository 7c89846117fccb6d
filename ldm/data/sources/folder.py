"""The source of a user's own pictures: a folder, nested as it likes, with or without captions.

Where captions come from (``captions``); "auto" takes the first that is there:

- sidecar: ``cat.txt`` beside ``cat.jpg``
- metadata: lines {"file_name": ..., "text" or "caption": ...} in a ``metadata.jsonl``, the names
  relative to it
- class: the name of the sub-folder, when there are at least two; underscores become spaces
- none: every caption is "", for unconditional training

Hidden files and folders, and files that are no pictures, are ignored.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ldm.data import images
from ldm.data.source import HELD_OUT, TRAIN, Bad, Sample
from ldm.data.sources.folder_captions import METADATA, SOURCES, FolderCaptions
from ldm.manifest import fingerprint

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_FOREIGN = (".heic", ".heif", ".avif", ".jxl", ".svg", ".psd", ".jp2")  # named, not passed over


class FolderSource:
    """Pictures under ``path``, the middle square of each at ``size_px``; meta holds path, class.

    ``background`` (red, green, blue in 0..255) is laid under transparent pictures; those with a
    side under ``min_size_px`` are left out. A picture is held out by the hash of its name, so
    adding pictures moves no other. ValueError when fewer than two pictures are found.
    """

    def __init__(
        self,
        *,
        path: str,
        size_px: int,
        held_out_fraction: float,
        background: list[int],
        min_size_px: int,
        max_pixels: int,
        captions: str,
    ) -> None:
        if captions not in ("auto", *SOURCES):
            raise ValueError(
                f"data.captions={captions!r} is not known; allowed: {', '.join(('auto', *SOURCES))}"
            )
        if not 0.0 < held_out_fraction < 1.0:
            raise ValueError(
                f"data.held_out_fraction={held_out_fraction} must lie between 0 and 1, e.g. 0.05."
            )
        if len(background) != 3 or not all(0 <= value <= 255 for value in background):
            raise ValueError(
                f"data.background={list(background)} must be three numbers from 0 to 255, e.g. "
                "data.background=[255,255,255]."
            )
        self.root = Path(path).expanduser()
        self.size_px = size_px
        self.held_out_fraction = held_out_fraction
        self.background = (int(background[0]), int(background[1]), int(background[2]))
        self.min_size_px = min_size_px
        self.max_pixels = max_pixels
        self.captions = captions

    def settings(self) -> dict[str, Any]:
        """The rules, and a fingerprint of every name, size and time of change under the folder."""
        return {
            "source": "folder",
            "size_px": self.size_px,
            "held_out_fraction": self.held_out_fraction,
            "background": list(self.background),
            "min_size_px": self.min_size_px,
            "max_pixels": self.max_pixels,
            "captions": self._captions.source,
            "input": fingerprint([(_text(name), *stamp) for name, stamp in self._files.items()]),
        }

    def splits(self) -> dict[str, int]:
        unmatched = len(self._captions.unmatched(self._pictures))
        counts = {split: len(names) for split, names in self._names.items()}
        return {**counts, TRAIN: counts[TRAIN] + unmatched}

    def samples(self, split: str) -> Iterator[Sample | Bad]:
        for name in self._names[split]:
            try:
                yield self._sample(name)
            except ValueError as error:
                yield Bad(_text(name), str(error))
        if split == TRAIN:
            for name in self._captions.unmatched(self._pictures):
                yield Bad(_text(name), f"named in {METADATA}, but no such picture")

    def _sample(self, name: str) -> Sample:
        """The sample of a picture; ValueError with the reason that counts it as bad."""
        suffix = Path(name).suffix.lower()
        if suffix in _FOREIGN:
            raise ValueError(f"format {suffix} is not read; convert it to PNG or JPEG")
        caption = self._captions.of(name)
        try:
            data = (self.root / name).read_bytes()
        except OSError as error:
            raise ValueError("cannot be opened") from error
        image = images.decode(data, self.background, self.max_pixels)
        height, width = image.shape[:2]
        if min(height, width) < self.min_size_px:
            raise ValueError(f"smaller than data.min_size_px={self.min_size_px}")
        meta = {"original_width": width, "original_height": height, "path": _text(name)}
        if self._captions.source == "class":
            meta["class"] = caption
        return Sample(_key(name), images.fit(image, (self.size_px, self.size_px)), caption, meta)

    @cached_property
    def _files(self) -> dict[str, tuple[int, int]]:
        """Every visible file by its path below the root, in order: its size and time of change."""
        if not self.root.is_dir():
            raise ValueError(
                f"data.path={self.root} is no folder; give the folder that holds your pictures."
            )
        found: dict[str, tuple[int, int]] = {}
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                if name.startswith("."):
                    continue
                path = Path(folder, name)
                try:
                    stat = path.stat()
                except OSError:  # a dangling link: reported as bad when it is read
                    found[path.relative_to(self.root).as_posix()] = (-1, 0)
                    continue
                found[path.relative_to(self.root).as_posix()] = (stat.st_size, stat.st_mtime_ns)
        return dict(sorted(found.items()))

    @cached_property
    def _pictures(self) -> list[str]:
        known = (*SUFFIXES, *_FOREIGN)
        pictures = [name for name in self._files if Path(name).suffix.lower() in known]
        if len(pictures) < 2:
            raise ValueError(
                f"data.path={self.root} holds {len(pictures)} pictures, and at least 2 are needed "
                f"(one to train on, one held out). Known are {', '.join(SUFFIXES)}."
            )
        return pictures

    @cached_property
    def _captions(self) -> FolderCaptions:
        return FolderCaptions(self.root, set(self._files), self._pictures, self.captions)

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        rank = {name: int(_hash(name)[:15], 16) / 16.0**15 for name in self._pictures}
        by_rank = sorted(self._pictures, key=rank.__getitem__)
        count = sum(rank[name] < self.held_out_fraction for name in by_rank)
        held_out = set(by_rank[: min(max(count, 1), len(by_rank) - 1)])
        return {
            TRAIN: [name for name in self._pictures if name not in held_out],
            HELD_OUT: [name for name in self._pictures if name in held_out],
        }


def _hash(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()


def _key(name: str) -> str:
    """A readable part of the path and ten hex digits that keep it unique; no dot, no slash."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name.rpartition(".")[0]).strip("_")
    return f"{readable[-48:]}-{_hash(name)[:10]}"


def _text(name: str) -> str:
    """A file name as text that can be written anywhere, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
