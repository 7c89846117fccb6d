"""Work on many items by several processes, in an order that does not depend on how many."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing.connection import wait as wait_for
from typing import Any, NamedTuple, TypeVar

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

    Begins in this process and goes to others when that takes long, where an item that had begun
    is begun again. An exception ends all.
    """
    begun, before, count = time.monotonic(), 0, 0
    for number, item in enumerate(items):
        with closing(work(item)) as steps:  # type: ignore[type-var]
            for count in steps:
                yield Done(number, before + count)
                late = time.monotonic() - begun > PATIENCE_SECONDS
                if late and processes > 1 and len(items) - number > 1:
                    break
            else:
                before += count
                yield Done(number + 1, before)
                continue
        for done in _by_others(work, items[number:], min(processes, len(items) - number)):
            yield Done(number + done.items, before + done.steps)
        return


def _by_others(work: Work[T], items: Sequence[T], processes: int) -> Iterator[Done]:
    context = multiprocessing.get_context("forkserver")  # which imports once for all of them
    context.set_forkserver_preload(["ldm.data.preparing.pieces"])
    count, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(work, count, stop))
    try:
        for number, future in enumerate([pool.submit(_do, item) for item in items]):
            while not wait([future], _POLL_SECONDS).done:
                yield Done(number, count.value)
            future.result()
            yield Done(number + 1, count.value)
    except BrokenProcessPool as error:
        raise ValueError(
            "a process of the preparation was killed, perhaps for want of memory. What is finished "
            "is kept: give the command again, with fewer processes=."
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


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
