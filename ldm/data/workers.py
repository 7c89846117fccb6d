"""Loader processes that outlast a signal to the whole job, and never outlast their parent."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, popen_forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

# The signals that may ask a training run to stop, and Ctrl-C. Schedulers send them to every process
# of a job, and what trains is then still in need of its data.
STOP_SIGNALS = ("SIGHUP", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU")
_BLOCKED = [signal.Signals[name] for name in (*STOP_SIGNALS, "SIGINT")]


class _Popen(popen_forkserver.Popen):
    def terminate(self) -> None:
        self.kill()  # it does not hear SIGTERM, which torch and multiprocessing would wait upon


class _Process(ForkServerProcess):
    @staticmethod
    def _Popen(process: Any) -> _Popen:
        return _Popen(process)


class _Context(ForkServerContext):
    Process = _Process


CONTEXT = _Context()  # for a DataLoader: forkserver, with processes that end when they are told


def start_server() -> None:
    """Start the process that loader processes are forked from, deaf to stop signals.

    A blocked signal stays blocked in what is started meanwhile; one that comes for this process
    itself is delivered afterwards.
    """
    for start in (resource_tracker.ensure_running, forkserver.ensure_running):  # the first unblocks
        with _blocked():
            start()


def begin(worker: int) -> None:
    """A loader process's first act (``worker_init_fn``), whoever started its server."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # torch's workers look at their parent by number, which for them is the server's.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
