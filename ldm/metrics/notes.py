"""What is noted of each picture of a set, block by block: features, judgements, distances.

A set is numbered 0 .. count - 1 and cut into blocks of fixed size, the last one shorter. Blocks
are noted by any process in any order; numbers are computed from the rows in the order of the
pictures. So the same notes, and the same numbers to the bit, come of any number of processes and
of work that was interrupted.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ldm.manifest import atomic

Rows = dict[str, Tensor]
"""By name, one row (B, ...) for each picture of a block, on the CPU."""


def blocks_of(count: int, block: int) -> list[range]:
    """The numbers 0 .. count - 1 in pieces of ``block``, the last one shorter."""
    return [range(count)[first : first + block] for first in range(0, count, block)]


class Notes(Protocol):
    """The rows of one set of pictures."""

    @property
    def count(self) -> int:
        """How many pictures the set has."""
        ...

    @property
    def names(self) -> list[str]:
        """What is noted of each picture, sorted."""
        ...

    def blocks(self, name: str) -> Iterator[Tensor]:
        """The rows called ``name`` of block after block, each (B, ...)."""
        ...


def rows_of(notes: Notes, name: str) -> Tensor:
    """All rows called ``name`` in the order of the pictures, (count, ...)."""
    return torch.cat(list(notes.blocks(name)))


def in_pieces(blocks: Iterable[Tensor], least: int = 1024) -> Iterator[Tensor]:
    """The same rows in pieces of ``least`` rows or somewhat more, as large matrices are faster."""
    piece: list[Tensor] = []
    for block in blocks:
        piece.append(block)
        if sum(map(len, piece)) >= least:
            yield torch.cat(piece)
            piece = []
    if piece:
        yield torch.cat(piece)


def require_finite(observer: str | None, first: int, rows: Rows) -> None:
    """ValueError where what was noted of pictures ``first``, ``first`` + 1, ... is not finite.

    A single value may be infinite, as the PSNR of an exact reconstruction is, but not NaN.
    """
    for name, values in rows.items():
        wrong = values.isnan() if values.ndim == 1 else ~values.isfinite()
        if bool(wrong.any()):
            picture = first + int(wrong.nonzero()[0, 0])
            raise ValueError(
                f"{f'{observer}: ' if observer else ''}{name} of picture {picture} are NaN or "
                "infinite: the network's weights are damaged, or it overflows. Choose others, or "
                "an earlier checkpoint."
            )


class NotesInMemory:
    """Notes of a set that is small: a block's rows by its number."""

    def __init__(self, blocks: Mapping[int, Rows]) -> None:
        self._blocks = [blocks[number] for number in range(len(blocks))]
        first = 0
        for rows in self._blocks:
            require_finite(None, first, rows)
            first += len(next(iter(rows.values())))

    @property
    def count(self) -> int:
        return sum(len(next(iter(rows.values()))) for rows in self._blocks)

    @property
    def names(self) -> list[str]:
        return sorted(self._blocks[0])

    def blocks(self, name: str) -> Iterator[Tensor]:
        for rows in self._blocks:
            yield rows[name]


class NotesInFiles:
    """Notes in a directory: ``000012.safetensors`` holds block 12, and is whole or absent.

    The directory has the observer's name, by which errors tell whose notes they are of.

    Nothing else says what is done: a killed process loses the block it was at, and several
    processes need no lock where each has blocks of its own.
    """

    def __init__(self, directory: str | Path, *, count: int, block: int) -> None:
        self.directory = Path(directory)
        self._count, self._blocks = count, blocks_of(count, block)

    @property
    def count(self) -> int:
        return self._count

    @property
    def names(self) -> list[str]:
        with self._opened(0) as file:
            return sorted(file.keys())

    def is_noted(self, number: int, changed: float = 0.0) -> bool:
        """Whether a block is noted, and not before its pictures ``changed`` (time as of stat)."""
        file = self._file(number)
        return file.is_file() and file.stat().st_mtime >= changed

    def write(self, number: int, rows: Rows) -> None:
        """Note one block; ValueError where a name has not one finite row for each picture."""
        expected = len(self._blocks[number])
        for name, tensor in rows.items():
            if len(tensor) != expected:
                raise ValueError(
                    f"block {number} has {expected} pictures, but {name} has {len(tensor)} rows."
                )
        require_finite(self.directory.name, self._blocks[number].start, rows)
        with atomic(self._file(number)) as temporary:
            save_file({k: v.detach().cpu().contiguous() for k, v in rows.items()}, temporary)

    def blocks(self, name: str) -> Iterator[Tensor]:
        for number, pictures in enumerate(self._blocks):
            with self._opened(number) as file:
                rows = file.get_tensor(name)
            if len(rows) != len(pictures):
                raise self._damaged(number, f"{len(rows)} rows for {len(pictures)} pictures")
            yield rows

    @contextmanager
    def _opened(self, number: int) -> Iterator[Any]:
        """The file of a block; ValueError naming it where it is damaged."""
        try:
            with safe_open(self._file(number), framework="pt") as file:
                yield file
        except SafetensorError as error:
            raise self._damaged(number, f"{error}") from error

    def _damaged(self, number: int, what: str) -> ValueError:
        return ValueError(
            f"{self._file(number)} is damaged ({what}). Delete it and run the same command; the "
            "block is noted again."
        )

    def _file(self, number: int) -> Path:
        return self.directory / f"{number:06d}.safetensors"


def notes_found(directory: Path) -> NotesInMemory:
    """The notes that a directory holds, whatever number of pictures they are of.

    ValueError where there are none, or damaged ones.
    """
    files = sorted(directory.glob("[0-9]*.safetensors"))
    if not files:
        raise ValueError(f"{directory} holds no notes.")
    try:
        return NotesInMemory({number: load_file(file) for number, file in enumerate(files)})
    except SafetensorError as error:
        raise ValueError(f"the notes in {directory} are damaged ({error}).") from error
