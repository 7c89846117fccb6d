"""Work on many items by several processes, in an order that does not depend on how many."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from multiprocessing.connection import wait as wait_for
from typing import Any, Generic, NamedTuple, TypeVar

import torch

T = TypeVar("T")
Work = Callable[[T], Iterator[int]]
PATIENCE_SECONDS = 1.0  # shorter work is done before other processes would have begun
_POLL_SECONDS = 0.3


class Done(NamedTuple):
    """How far the work is."""

    items: int  # finished, counted from the first one without a gap
    steps: int  # inside of items, as they yielded it, over all of them


def work_through(work: Work[T], items: Sequence[T], processes: int) -> Iterator[Done]:
    """Do ``work`` on every item; it yields how much of its item is done and is picklable.

    Begins in this process and calls others to the rest where that takes long; the item under way
    here is finished here while they start. An exception ends all.
    """
    begun, before, count = time.monotonic(), 0, 0
    others: _Others[T] | None = None
    with ExitStack() as at_the_end:
        for number, item in enumerate(items):
            rest = items[number + 1 :]
            with closing(work(item)) as steps:  # type: ignore[type-var]
                for count in steps:
                    yield Done(number, before + count + (others.steps() if others else 0))
                    late = time.monotonic() - begun > PATIENCE_SECONDS
                    if late and processes > 1 and rest and others is None:
                        others = _Others(work, rest, min(processes, len(rest)))
                        at_the_end.callback(others.end)
            before += count
            yield Done(number + 1, before + (others.steps() if others else 0))
            if others:
                for done in others.progress():
                    yield Done(number + 1 + done.items, before + done.steps)
                return


class _Others(Generic[T]):
    """Processes at work on items."""

    def __init__(self, work: Work[T], items: Sequence[T], processes: int) -> None:
        context = multiprocessing.get_context("forkserver")  # which imports once for all of them
        context.set_forkserver_preload(["ldm.data.preparing.pieces"])
        self._count, self._stop = context.Value("q", 0), context.Event()
        begin = (work, self._count, self._stop)
        self._pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=begin)
        self._futures = [self._pool.submit(_do, item) for item in items]

    def steps(self) -> int:
        return int(self._count.value)

    def progress(self) -> Iterator[Done]:
        try:
            for number, future in enumerate(self._futures):
                while not wait([future], _POLL_SECONDS).done:
                    yield Done(number, self.steps())
                future.result()
                yield Done(number + 1, self.steps())
        except BrokenProcessPool as error:
            raise ValueError(
                "a process of the preparation was killed, perhaps for want of memory. What is "
                "finished is kept: give the command again, with fewer processes=."
            ) from error

    def end(self) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)


_state: tuple[Any, ...] = ()


def _begin(work: Work[Any], count: Any, stop: Any) -> None:
    """In each process: what to do; to go when the parent goes; to leave interrupts to it."""
    global _state
    _state = (work, count, stop)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _do(item: Any) -> None:
    work, count, stop = _state
    before = 0
    with closing(work(item)) as steps:
        for done in steps:
            with count.get_lock():
                count.value += done - before
            before = done
            if stop.is_set():
                return
