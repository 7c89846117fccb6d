"""The source of webdataset shards: tar files as img2dataset writes them.

A sample is what shares a key: the name up to the first dot of its last part, as webdataset has it.
Its members need not stand side by side. The picture is the one with a known ending, .txt holds a
caption, .json an object of columns. Nothing else is opened: no other endings, no links, no names
that are absolute or lead upwards; and nothing is ever extracted.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

from ldm.data.remote import File, LocalCopies, find, fingerprint_of
from ldm.data.source import Bad, Part, Record
from ldm.data.sources.columns import captions_of, metadata_from_json, metadata_of

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "npy")
TEXT = "txt"  # stands for the .txt member among the names of captions
_MAX_TEXT_BYTES = 1 << 20
_MAX_PICTURE_BYTES = 1 << 30
_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_BLOCK = 512


class Member(NamedTuple):
    """Where a file lies inside a tar."""

    offset: int
    size: int


class WebdatasetSource:
    """Tar shards at ``path`` (a folder, glob, brace expression, list; local or remote).

    ``captions`` are the names of what holds them: txt, or columns of the .json members; none for
    pictures without. Remote shards are read from copies in ``cache_dir`` of at most ``cache_gb``.
    """

    def __init__(
        self,
        *,
        path: str | Sequence[str],
        captions: Sequence[str],
        schemes: Sequence[str],
        cache_dir: str | None,
        cache_gb: float,
    ) -> None:
        self.path = path if isinstance(path, str) else list(path)
        self.captions = list(captions)
        self.schemes = list(schemes)
        self.copies = LocalCopies(cache_dir, int(cache_gb * 1e9))

    def settings(self) -> dict[str, Any]:
        input = fingerprint_of(self._files)
        return {"source": "webdataset", "captions": self.captions, "input": input}

    def parts(self) -> list[Part]:
        return [Part(file, None) for file in self._files]

    def read(self, part: Part) -> Iterator[Record | Bad]:
        file: File = part.where
        with self.copies.open(file) as tar:
            samples, repeated, is_whole = read_members(tar, file.url)
            for key, members in samples.items():
                try:
                    yield self._record(tar, key, members)
                except ValueError as error:
                    yield Bad(key, str(error))
            yield from (Bad(key, "duplicate key") for key in repeated)
            if not is_whole:
                yield Bad(file.url, "truncated or damaged tar")

    def _record(self, tar: BinaryIO, key: str, members: dict[str, Member]) -> Record:
        """ValueError with the reason that counts the sample as bad."""
        pictures = [ending for ending in members if _last(ending) in PICTURES]
        if not pictures:
            raise ValueError("no picture")
        if len(pictures) > 1:  # a mask or a preview beside it has a longer ending
            pictures = [ending for ending in pictures if "." not in ending]
        if len(pictures) != 1:
            raise ValueError("several pictures")
        texts = {_last(e): m for e, m in members.items() if _last(e) in (TEXT, "json")}
        columns = metadata_from_json(_text(tar, texts["json"])) if "json" in texts else {}
        captions: tuple[str, ...] = ()
        if self.captions:
            values = [
                _text(tar, texts[TEXT]).decode("utf-8-sig", "surrogateescape")
                if name == TEXT and TEXT in texts
                else columns.get(name)
                for name in self.captions
            ]
            captions = captions_of(values)
        picture = _bytes(tar, members[pictures[0]], _MAX_PICTURE_BYTES, "picture above 1 GB")
        return Record(key, picture, captions, metadata_of(columns, without=self.captions))

    @cached_property
    def _files(self) -> list[File]:
        files = find(self.path, ".tar", self.schemes)
        for file in files:
            if re.search(r"\.(tgz|tar\.\w+)$", file.url):
                raise ValueError(_compressed(file.url))
        return files


def read_members(tar: BinaryIO, name: str) -> tuple[dict[str, dict[str, Member]], list[str], bool]:
    """The members of a tar by key and ending, keys that came again, and whether it ends as it must.

    ``name`` is for messages. ValueError for a compressed tar.
    """
    if tar.read(6).startswith(_COMPRESSED):
        raise ValueError(_compressed(name))
    size = tar.seek(0, 2)
    samples: dict[str, dict[str, Member]] = {}
    repeated: dict[str, None] = {}
    for key, ending, member in _walk(tar):
        if member.offset + member.size > size:
            return samples, list(repeated), False
        members = samples.setdefault(key, {})
        if ending in members:
            repeated[key] = None
        members.setdefault(ending, member)
    # tarfile takes a cut between members, or a damaged header, for the end: that is two blocks of
    # zeros, of which the first stands where it stopped.
    end = tar.read(_BLOCK)
    return samples, list(repeated), end == bytes(_BLOCK)


def _walk(tar: BinaryIO) -> Iterator[tuple[str, str, Member]]:
    """Key, ending and place of each plain file; the tar then stands where the walk has stopped."""
    tar.seek(0)
    try:
        opened = tarfile.TarFile(fileobj=tar, mode="r", errorlevel=0)
        while (info := opened.next()) is not None:
            opened.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            match = _NAME.fullmatch(info.name)
            if match is None or info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                continue
            if info.sparse is not None or info.name.startswith("/") or ".." in info.name.split("/"):
                continue
            yield match[1], match[2].lower(), Member(info.offset_data, info.size)
        tar.seek(opened.offset)
    except tarfile.TarError:
        tar.seek(0, 2)


def _last(ending: str) -> str:
    return ending.rpartition(".")[2]


def _text(tar: BinaryIO, member: Member) -> bytes:
    return _bytes(tar, member, _MAX_TEXT_BYTES, "text above 1 MB")


def _bytes(tar: BinaryIO, member: Member, most: int, reason: str) -> bytes:
    if member.size > most:
        raise ValueError(reason)
    tar.seek(member.offset)
    return tar.read(member.size)


def _compressed(name: str) -> str:
    return (
        f"{name} is compressed, and only plain tar files can be read at any place. Unpack it "
        "(gunzip, for .tar.gz): pictures are compressed already."
    )
