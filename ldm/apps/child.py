"""A command of ours as a process of its own, which answers signals before its parent does."""

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from ldm.data.workers import STOP_SIGNALS


def run_child(words: Sequence[str]) -> int:
    """Run a command to its end; its exit code, which says how a signal was taken.

    Ctrl-C reaches both processes, and a parent that ended at once would kill a child that is
    saving. Other stop signals are passed on, since they may have been sent to the parent alone.
    """
    handlers = {}
    with subprocess.Popen(words) as process:

        def pass_on(number: int, frame: FrameType | None) -> None:
            if number != signal.SIGINT:
                process.send_signal(number)

        for name in (*STOP_SIGNALS, "SIGINT"):
            handlers[name] = signal.signal(signal.Signals[name], pass_on)
        try:
            return process.wait()
        finally:
            for name, handler in handlers.items():
                signal.signal(signal.Signals[name], handler)
