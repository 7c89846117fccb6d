"""Walking the headers of a tar that may be truncated, damaged, or made to do harm."""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_BLOCK = 512
_MAX_HEADER_BYTES = 1 << 20  # with its long names and extended attributes


class Member(NamedTuple):
    """A plain file inside a tar."""

    name: str  # as it stands there; it may be absolute or lead upwards
    offset: int  # of its bytes, from the beginning of the tar
    size: int  # bytes


class DamagedTar(ValueError):
    """Raised where a tar cannot be walked any further; what came before it is whole."""


def walk(tar: BinaryIO) -> Iterator[Member]:
    """The plain files of a tar, in order: no links, devices, folders or sparse files.

    Nothing but headers is read, and at most 1 MB for each. DamagedTar where the tar is cut, does
    not go on from a header to the next, or lacks the block of zeros that ends every tar.
    """
    size = tar.seek(0, 2)
    tar.seek(0)
    opened: tarfile.TarFile | None = None
    reached = 0
    while True:
        try:
            opened = opened or tarfile.TarFile(fileobj=_Headers(tar))  # type: ignore[arg-type]
            info = opened.next()
        except Exception as error:  # parsers of hostile bytes raise anything
            raise DamagedTar(str(error)) from error
        if info is None:
            break
        opened.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        # Sizes below zero would lead back, and around for ever.
        if info.size < 0 or opened.offset <= reached:
            raise DamagedTar("a header leads backwards")
        reached = opened.offset
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.sparse is not None:
            continue
        if info.offset_data + info.size > size:
            raise DamagedTar("the last member is cut")
        yield Member(info.name, info.offset_data, info.size)
    # tarfile takes a cut between members, or a damaged header, for the end: that is two blocks of
    # zeros, of which the first stands where it stopped.
    tar.seek(opened.offset)
    if tar.read(_BLOCK) != bytes(_BLOCK):
        raise DamagedTar("it does not end with zeros")


class _Headers:
    """What tarfile reads headers from: never more at once than a header can be."""

    def __init__(self, tar: BinaryIO) -> None:
        self.seek, self.tell, self._read = tar.seek, tar.tell, tar.read

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise DamagedTar(f"a header of {size} bytes")
        return self._read(size)
