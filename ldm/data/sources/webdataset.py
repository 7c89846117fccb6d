"""The source of webdataset shards: tar files as img2dataset writes them.

A sample is what shares a key: the name up to the first dot of its last part, as webdataset has it.
Its members need not stand side by side. The picture is the one with a known ending (.npy only where
there is no other), .txt holds a caption, .json an object of columns; of several, the one with the
plain ending. Nothing else is opened: no other endings, no links, no names that are absolute or lead
upwards; and nothing is ever extracted.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, BinaryIO

from ldm.data.remote import File, LocalCopies, find, fingerprint_of
from ldm.data.source import Bad, Part, Record
from ldm.data.sources.columns import captions_of, metadata_from_json, metadata_of
from ldm.data.tar import DamagedTar, Member, walk
from ldm.ranges import Positive

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "npy")
TEXT = "txt"  # stands for the .txt member among the names of captions
_MAX_TEXT_BYTES = 1 << 20
_MAX_PICTURE_BYTES = 1 << 30
_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


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
        cache_gb: Positive,
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
        # Arrays beside pictures are features or masks of these.
        pictures = [ending for ending in pictures if _last(ending) != "npy"] or pictures
        if not pictures:
            raise ValueError("no picture")
        picture = _chosen(pictures)
        if picture is None:
            raise ValueError("several pictures")
        texts: dict[str, Member] = {}
        for kind in (TEXT, "json"):
            if chosen := _chosen([ending for ending in members if _last(ending) == kind]):
                texts[kind] = members[chosen]
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
        data = _bytes(tar, members[picture], _MAX_PICTURE_BYTES, "picture above 1 GB")
        return Record(key, data, captions, metadata_of(columns, without=self.captions))

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
    samples: dict[str, dict[str, Member]] = {}
    repeated: dict[str, None] = {}
    try:
        for member in walk(tar):
            match = _NAME.fullmatch(member.name)
            if match is None or member.name[0] == "/" or ".." in member.name.split("/"):
                continue
            key, ending = match[1], match[2].lower()
            members = samples.setdefault(key, {})
            if ending in members:
                repeated[key] = None
            members.setdefault(ending, member)
    except DamagedTar:
        return samples, list(repeated), False
    return samples, list(repeated), True


def _chosen(endings: Sequence[str]) -> str | None:
    """The plain one (jpg) among longer ones (mask.jpg), or else the only one."""
    plain = [ending for ending in endings if "." not in ending] or endings
    return plain[0] if len(plain) == 1 else None


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
