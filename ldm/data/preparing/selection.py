"""Which prepared samples go into which split, once all of them are known."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldm.data.preparing.duplicates import first_equal, near_pairs

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
    everything = np.arange(len(rows))
    repeated = np.flatnonzero(first_equal(rows["name"], everything) != everything)
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
    """Each duplicate with the sample that it repeats; that of a near one is no near one itself."""
    usable = np.flatnonzero(split != LEFT_OUT)
    usable = usable[np.argsort(split[usable] != HELD_OUT, kind="stable")]  # those to keep first
    first = usable[first_equal(rows["exact"][usable], np.arange(len(usable)))]
    is_first = first == usable
    found = [
        Duplicate(sample, of, "exact")
        for sample, of in zip(usable[~is_first].tolist(), first[~is_first].tolist(), strict=True)
    ]
    single = usable[is_first]
    first = first_equal(rows["near"][single], np.arange(len(single)))
    alone = np.flatnonzero(first == np.arange(len(single)))  # one of each hash
    near: dict[int, int] = {}
    pairs = alone[near_pairs(rows["near"][single[alone]])]
    for of, sample in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].tolist():
        if of not in near:
            near.setdefault(sample, of)
    for sample in np.flatnonzero(first != np.arange(len(single))).tolist():
        near[sample] = near.get(int(first[sample]), int(first[sample]))
    found += [
        Duplicate(int(single[sample]), int(single[of]), "near") for sample, of in near.items()
    ]
    return found
