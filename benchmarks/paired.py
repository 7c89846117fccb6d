"""Two ways to do the same work, timed in turn: on a shared machine only their ratio means much."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import torch

BLOCKS = 9  # timed pairs of blocks; the first pair, which warms caches, is not counted


class Ratio(NamedTuple):
    """How much faster ours is, and both rates in items per second: medians over blocks."""

    ratio: float
    ours: float
    theirs: float

    def __str__(self) -> str:
        return f"{self.ratio:6.2f} x   ({self.ours:,.0f} against {self.theirs:,.0f} per second)"


def paired(
    ours: Callable[[], object], theirs: Callable[[], object], items: int, *, blocks: int = BLOCKS
) -> Ratio:
    """Both work through ``items`` per call, interleaved; the order changes from pair to pair."""
    seconds: list[tuple[float, float]] = []
    for block in range(blocks + 1):
        order = (ours, theirs) if block % 2 else (theirs, ours)
        spent = {work: _seconds(work) for work in order}
        seconds.append((spent[ours], spent[theirs]))
    kept = seconds[1:]
    return Ratio(
        ratio=median(theirs / ours for ours, theirs in kept),
        ours=items / median(ours for ours, _ in kept),
        theirs=items / median(theirs for _, theirs in kept),
    )


@contextmanager
def one_core() -> Iterator[None]:
    """Everything inside, processes begun there included, runs on the first core we may use."""
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(allowed)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
