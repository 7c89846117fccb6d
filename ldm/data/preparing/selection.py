"""Which prepared samples go into which split, once all of them are known."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldm.data.preparing.duplicates import first_equal, first_near

TRAIN, HELD_OUT, LEFT_OUT = 0, 1, -1
# None: not looked for; report: all are kept; exact: one of each; near: of nearly equal ones too.
DUPLICATES = (None, "report", "exact", "near")


class Duplicate(NamedTuple):
    """A sample whose picture is there already."""

    sample: int
    of: int
    kind: str  # exact or near


class Selection(NamedTuple):
    """The outcome for N samples."""

    split: NDArray[np.int8]  # (N,) TRAIN, HELD_OUT or LEFT_OUT
    assigned: NDArray[np.int8]  # (N,) the same before duplicates were left out
    repeated: NDArray[np.int64]  # positions left out for a key that an earlier sample has
    duplicates: list[Duplicate]  # ordered by sample; left out or only named, as was asked


def select(rows: NDArray[Any], duplicates: str | None) -> Selection:
    """Decide over ``rows`` (N,) with fields name, rank, exact, near and split.

    Of equal keys the first stays. Of equal pictures a held-out one stays before a training one, so
    that nothing leaks, and an earlier one before a later. A split that would be empty gets one
    sample, the nearest to it by rank. ValueError if fewer than two samples are left.
    """
    split = rows["split"].astype(np.int8)
    repeated = np.flatnonzero(first_equal(rows["name"]) != np.arange(len(rows)))
    split[repeated] = LEFT_OUT
    _fill_empty(split, rows["rank"])
    assigned = split.copy()
    found = _duplicates(rows, split) if duplicates is not None else []
    for duplicate in found:
        if duplicates == "near" or duplicate.kind == duplicates:
            split[duplicate.sample] = LEFT_OUT
    _fill_empty(split, rows["rank"])
    return Selection(split, assigned, repeated, sorted(found))


def _fill_empty(split: NDArray[np.int8], rank: NDArray[np.uint64]) -> None:
    usable = np.flatnonzero(split != LEFT_OUT)
    if len(usable) < 2:
        raise ValueError(f"{len(usable)} usable pictures are left, and at least 2 are needed")
    if not (split == HELD_OUT).any():
        split[usable[rank[usable].argmin()]] = HELD_OUT
    if not (split == TRAIN).any():
        split[usable[rank[usable].argmax()]] = TRAIN


def _duplicates(rows: NDArray[Any], split: NDArray[np.int8]) -> list[Duplicate]:
    """Each duplicate with the sample that stays for it, which is none itself."""
    usable = np.flatnonzero(split != LEFT_OUT)
    usable = usable[np.argsort(split[usable] != HELD_OUT, kind="stable")]  # those to keep first
    exact = first_equal(rows["exact"][usable])
    single = usable[exact == np.arange(len(usable))]
    near = first_near(rows["near"][single])
    return _named(usable, exact, "exact") + _named(single, near, "near")


def _named(samples: NDArray[np.int64], first: NDArray[np.int64], kind: str) -> list[Duplicate]:
    """Those of ``samples`` (n,) whose ``first`` (n,), a position in them, is another one."""
    repeated = np.flatnonzero(first != np.arange(len(first)))
    pairs = zip(samples[repeated].tolist(), samples[first[repeated]].tolist(), strict=True)
    return [Duplicate(sample, of, kind) for sample, of in pairs]
