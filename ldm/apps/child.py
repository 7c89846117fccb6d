"""A command of ours as a process of its own, which answers signals before its parent does."""

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from ldm.apps.exit_codes import INTERRUPTED, STOPPED
from ldm.data.workers import STOP_SIGNALS


def run_child(words: Sequence[str]) -> int:
    """Run a command to its end; its exit code, which says how a signal was taken.

    A child that a signal of ours ended before it could listen counts as stopped by it.

    Ctrl-C reaches both processes, and a parent that ended at once would kill a child that is
    saving. Other stop signals are passed on, since they may have been sent to the parent alone.
    """
    handlers, noted = {}, set()
    with subprocess.Popen(words) as process:

        def pass_on(number: int, frame: FrameType | None) -> None:
            noted.add(number)
            if number != signal.SIGINT:
                process.send_signal(number)

        for name in (*STOP_SIGNALS, "SIGINT"):
            handlers[name] = signal.signal(signal.Signals[name], pass_on)
        try:
            code = process.wait()
            if code < 0 and -code in noted:
                return INTERRUPTED if -code == signal.SIGINT else STOPPED
            return code
        finally:
            for name, handler in handlers.items():
                signal.signal(signal.Signals[name], handler)
