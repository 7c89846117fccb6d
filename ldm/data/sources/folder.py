"""The source of a user's own pictures: a folder, nested as it likes, with or without captions.

Where captions come from (``captions``); "auto" takes the first that is there:

- sidecar: ``cat.txt`` beside ``cat.jpg``
- metadata: lines {"file_name": ..., "text" or "caption" or "captions": ...} in a
  ``metadata.jsonl``, the names relative to it; a list of texts is several captions, and a list of
  names as ``captions`` chooses other columns
- class: the name of the sub-folder, when there are at least two; underscores become spaces
- none: every caption is "", for unconditional training

Linked folders are followed, each folder once. Hidden files and folders, and files that are no
pictures, are ignored. ``.npy`` arrays are pictures
where there are no others.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from stat import S_ISREG
from typing import Any

from ldm.data.preparing.picture_rules import printable
from ldm.data.source import Bad, Part, Record
from ldm.data.sources.folder_captions import METADATA, SOURCES, CaptionsFrom, FolderCaptions
from ldm.manifest import fingerprint

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_PART = 128  # pictures that one process reads in one go
_FOREIGN = (".heic", ".heif", ".avif", ".jxl", ".svg", ".psd", ".jp2")  # named, not passed over


class FolderSource:
    """Pictures under ``path``, keyed by their names.

    Meta holds path, class where captions are those, and the other columns of metadata.jsonl.
    ValueError when fewer than two pictures are found.
    """

    def __init__(self, *, path: str, captions: CaptionsFrom | Sequence[str]) -> None:
        if isinstance(captions, str) and captions not in ("auto", *SOURCES):
            raise ValueError(
                f"data.captions={captions!r} is not known; allowed: {', '.join(('auto', *SOURCES))}"
                ", or columns of metadata.jsonl such as data.captions=[text]"
            )
        self.root = Path(path).expanduser()
        self.captions = captions if isinstance(captions, str) else list(captions)

    def settings(self) -> dict[str, Any]:
        """The captions, and a fingerprint of name, size and time of change of what is read.

        That is pictures and the files that may hold their captions; others come and go.
        """
        pictures = {*self._pictures}
        stems = {os.path.splitext(name)[0] for name in pictures}

        def is_read(name: str) -> bool:
            stem, ending = os.path.splitext(name)
            is_sidecar = ending.lower() == ".txt" and stem in stems
            return name in pictures or is_sidecar or Path(name).name == METADATA

        stamps = [(printable(name), *self._files[name]) for name in self._files if is_read(name)]
        return {
            "source": "folder",
            "captions": self._captions.chosen,
            "input": fingerprint(stamps),
        }

    def parts(self) -> list[Part]:
        unmatched = self._captions.unmatched(self._pictures)
        names = [*self._pictures, *unmatched]
        return [
            Part(tuple(names[start : start + _PART]), len(names[start : start + _PART]))
            for start in range(0, len(names), _PART)
        ]

    def read(self, part: Part) -> Iterator[Record | Bad]:
        for name in part.where:
            try:
                yield self._record(name)
            except ValueError as error:
                yield Bad(printable(name), str(error))

    def _record(self, name: str) -> Record:
        """The record of a picture; ValueError with the reason that counts it as bad."""
        if name not in self._files:
            raise ValueError(f"named in {METADATA}, but no such picture")
        suffix = Path(name).suffix.lower()
        if suffix in _FOREIGN:
            raise ValueError(f"format {suffix} is not read; convert it to PNG or JPEG")
        captions = self._captions.of(name)
        try:
            data = (self.root / name).read_bytes()
        except OSError as error:
            raise ValueError("cannot be opened") from error
        meta = {**self._captions.meta(name), "path": printable(name)}
        if self._captions.source == "class":
            meta["class"] = captions[0]
        return Record(name, data, captions, meta)

    @cached_property
    def _files(self) -> dict[str, tuple[int, int]]:
        """Every visible file by its path below the root, in order: its size and time of change."""
        if not self.root.is_dir():
            raise ValueError(
                f"data.path={self.root} is no folder; give the folder that holds your pictures."
            )
        found: dict[str, tuple[int, int]] = {}
        for path in visible_files(self.root):
            name = path.relative_to(self.root).as_posix()
            try:
                stat = path.stat()
            except OSError:  # a dangling link: reported as bad when it is read
                found[name] = (-1, 0)
                continue
            if S_ISREG(stat.st_mode):  # a pipe or a device would be read for ever
                found[name] = (stat.st_size, stat.st_mtime_ns)
        return dict(sorted(found.items()))

    @cached_property
    def _pictures(self) -> list[str]:
        suffixes = {name: Path(name).suffix.lower() for name in self._files}
        pictures = [name for name in self._files if suffixes[name] in (*SUFFIXES, *_FOREIGN)]
        # Arrays beside pictures are features or masks of these.
        pictures = pictures or [name for name in self._files if suffixes[name] == ".npy"]
        if len(pictures) < 2:
            raise ValueError(
                f"data.path={self.root} holds {len(pictures)} pictures, and at least 2 are needed "
                f"(one to train on, one held out). Known are {', '.join(SUFFIXES)}, .npy."
            )
        return pictures

    @cached_property
    def _captions(self) -> FolderCaptions:
        return FolderCaptions(self.root, set(self._files), self._pictures, self.captions)


def visible_files(root: Path) -> Iterator[Path]:
    """What lies below a folder, linked folders too: each folder once, by its own name if it can."""
    tops, seen = [root], set()
    for top in tops:  # which grows
        for folder, folders, names in os.walk(top):
            if (real := os.path.realpath(folder)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            tops += [Path(folder, n) for n in folders if os.path.islink(os.path.join(folder, n))]
            yield from (Path(folder, name) for name in names if not name.startswith("."))
