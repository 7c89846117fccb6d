"""Sets of pictures that are judged, or that others are compared with."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ldm.apps.evaluations.measure import Block
from ldm.features.quantise import quantise
from ldm.manifest import fingerprint


class Pictures(Protocol):
    """A set of pictures, numbered: cheap, and picklable, until some of them are asked for."""

    @property
    def count(self) -> int: ...

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of them all."""
        ...

    @property
    def captions(self) -> Sequence[str]:
        """One for each picture, "" where it has none."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """What decides pixels and captions, as far as it is known without reading them."""
        ...

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record must say of them beside their number and their pixels."""
        ...

    def block(self, rows: range) -> Block:
        """Some of them, made or read, on any device."""
        ...

    def is_kept(self, rows: range) -> bool:
        """Whether nothing is left to be done for them but to note what is not noted."""
        ...

    def changed(self, rows: range) -> float:
        """When files of them last changed that ``identity`` does not know; 0 without such."""
        ...


class Readable(Pictures, Protocol):
    """A set that is read from files."""

    def images(self, rows: range) -> Tensor:
        """Some of them (B, C, H, W) in [-1, 1], as they are: not rounded to 8 bits."""
        ...


def rounded(images: Tensor, captions: Sequence[str], originals: Tensor | None = None) -> Block:
    """Pictures as they are once saved: the one place where what is measured is rounded."""
    return Block(quantise(images), captions, None if originals is None else quantise(originals))


def stamp_of(root: Path, files: Iterable[Path]) -> str:
    """Other hex digits once a file below ``root`` is replaced, even by one of its size and age."""
    found = ((file.relative_to(root).as_posix(), file.stat()) for file in files)
    return fingerprint([(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in found])


def in_words(size_px: tuple[int, int]) -> str:
    """Height and width for people."""
    return f"{size_px[0]} x {size_px[1]} px"
