"""Walking tars: the headers that other tools write, and those that were made to do harm."""

import io
import tarfile

import pytest

from ldm.data.tar import DamagedTar, Member, walk


def _header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def _extended(name: str, value: str) -> bytes:
    """A PAX header that sets one attribute of the member after it."""
    rest = f" {name}={value}\n"
    length = next(n for n in range(9999) if len(str(n) + rest) == n)
    data = f"{length}{rest}".encode()
    return _header("x", len(data), tarfile.XHDTYPE) + _padded(data)


def _walked(data: bytes) -> list[Member]:
    return list(walk(io.BytesIO(data)))


END = bytes(1024)
FIRST = _header("a.txt", 3) + _padded(b"abc")


def test_plain_files_are_named_with_their_place():
    links = _header("link", kind=tarfile.SYMTYPE) + _header("folder", kind=tarfile.DIRTYPE)
    data = FIRST + links + _extended("path", "/up/../b.txt") + _header("b") + END
    found = _walked(data)
    assert [member.name for member in found] == ["a.txt", "/up/../b.txt"]
    assert data[found[0].offset : found[0].offset + found[0].size] == b"abc"


def _negative_in_base_256(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    header = bytearray(_header(name, kind=kind))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "rest",
    [
        _extended("size", "-1536") + _header("b.txt"),  # back to itself, for ever
        _extended("size", "-1") + _header("b.txt"),
        _extended("size", str(2**70)) + _header("b.txt"),
        _negative_in_base_256("b.txt"),
        _negative_in_base_256("x", tarfile.XHDTYPE),
        (_header("././@LongLink", 5, tarfile.GNUTYPE_LONGNAME) + _padded(b"name\0")) * 3000,
        _header("x", 2**32, tarfile.XHDTYPE),  # 4 GB of attributes
        _extended("GNU.sparse.map", "a,b") + _header("b.txt"),
        _extended("GNU.sparse.size", "x") + _header("b.txt"),
        _header("b.txt", 5000) + b"cut",
    ],
)
def test_hostile_headers_end_the_walk_after_what_is_whole(rest):
    members = walk(io.BytesIO(FIRST + rest + END))
    assert next(members).name == "a.txt"
    with pytest.raises(DamagedTar):
        next(members)


@pytest.mark.parametrize("data", [b"", FIRST, FIRST + b"?" * 512, b"no tar" * 200])
def test_a_tar_that_does_not_end_as_tars_do_is_damaged(data):
    with pytest.raises(DamagedTar):
        _walked(data)
