"""Signals that ask a sweep to stop: noted, and looked at between two polls of its jobs."""

import os
import signal
from types import FrameType
from typing import Any, Self

from ldm.apps.exit_codes import INTERRUPTED, STOPPED
from ldm.data.workers import STOP_SIGNALS


class Stops:
    """As a context, catches Ctrl-C and the other stop signals; how many came, and which first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for name in (*STOP_SIGNALS, "SIGINT"):
            number = signal.Signals[name]
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def code(self) -> int:
        """The exit code of what was stopped so."""
        return INTERRUPTED if self.first == signal.SIGINT else STOPPED

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.first is None:
            self.first = number
            # Not print(), which a handler may have interrupted in the middle of its work.
            os.write(2, b"\nthe sweep stops; the same command goes on with it\n")
