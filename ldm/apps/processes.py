"""Several processes of one command, one per device: begun, watched, and ended together."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from ldm.apps.errors import UserError, in_words

T = TypeVar("T")
_LOOK_SECONDS = 0.5  # between two looks at the processes
_FEWER = "fewer devices="


def require_devices(device: str, count: int) -> None:
    """UserError where this machine has not ``count`` GPUs and as many are asked for."""
    if device == "cuda" and count > torch.cuda.device_count():
        raise UserError(
            f"devices={count}, but torch finds {torch.cuda.device_count()} GPU(s); set "
            f"devices={max(torch.cuda.device_count(), 1)}, or accelerator=cpu."
        )


def together(
    share: Callable[..., None],
    arguments: tuple[Any, ...],
    *,
    device: str,
    threads: int,
    count: int,
    progress: Callable[[], T],
    preload: str,
    fewer: str = _FEWER,
) -> Iterator[T]:
    """Run ``share(rank, *arguments)`` in ``count`` processes; yields ``progress()`` now and then.

    ``share`` is a function of a module. A process has its rank's GPU, or on the CPU so many
    ``threads``, which are part of the exact bits of what it computes. The first error of any is
    raised, and the others are ended; so they are where this process ends in whatever way.
    ``preload`` is a module that they all need, ``fewer`` says what to lower where memory was short.
    """
    context = multiprocessing.get_context("forkserver")  # which imports once for all of them
    context.set_forkserver_preload([preload])
    failures = context.SimpleQueue()
    processes = [
        context.Process(target=_live, args=(failures, device, threads, rank, share, arguments))
        for rank in range(count)
    ]
    codes: list[int | None] = []
    try:
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            for process in processes:
                process.join(_LOOK_SECONDS / count)
            if any(process.exitcode for process in processes):
                break
            yield progress()
        codes = [process.exitcode for process in processes]  # before the others are ended
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()
    if not failures.empty():
        raise UserError(failures.get())
    if broken := [code for code in codes if code]:
        raise UserError(_how_it_ended(broken[0], fewer))
    yield progress()


def _live(
    failures: Any,
    device: str,
    threads: int,
    rank: int,
    share: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """The whole life of one of the processes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted and ends this one
    if device == "cuda":
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(threads)
    try:
        share(rank, *arguments)
    except Exception as error:
        if (said := in_words(error)) is None:
            raise
        failures.put(said)  # a sentence for the user, which the parent will print
        raise SystemExit(1) from error


def _how_it_ended(code: int, fewer: str) -> str:
    if code == -signal.SIGKILL:
        return (
            "one of the processes was killed (signal 9), perhaps for want of memory: choose "
            f"{fewer}. The same command goes on from what is there."
        )
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}, after the error above"
    return f"one of the processes ended {how}. The same command goes on from what is there."


def _end_with_parent() -> None:
    """At any moment: a kill costs no more than what is not committed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
