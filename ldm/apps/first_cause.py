"""What failed first in a run of several processes: told by all, and none is left waiting."""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from ldm.apps.errors import in_words

FAILURE = "failure.json"
# Rank 0 speaks and goes first: Lightning's launcher kills it when one that it started has gone.
_LOOK_SECONDS, _GRACE_SECONDS, _OTHERS_SECONDS = 0.5, 2.0, 5.0
_LOST = ("Connection closed by peer", "Connection reset by peer", "remote process exited")


class FirstCause(Callback):
    """Keeps in ``path`` the error of the rank that failed first, from which others only follow.

    A process that waits for others on a GPU would do so until a timeout, and one that works would
    go on: each looks for the file now and then, and ends when it appears, after ``finish``.
    """

    def __init__(self, path: Path, *, finish: Callable[[], None]) -> None:
        self.path, self.finish = path, finish
        self._rank = 0
        self._said = False
        self._leaving = threading.Event()

    def setup(self, trainer: Trainer, module: Any, stage: str) -> None:
        if trainer.world_size == 1:
            return
        self._rank = trainer.global_rank
        trainer.strategy.barrier("first cause")
        threading.Thread(target=self._look, daemon=True, name="first-cause").start()

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        self._leaving.set()
        if trainer.world_size > 1 and isinstance(exception, Exception):
            self._note(module.step, exception)

    def teardown(self, trainer: Trainer, module: Any, stage: str) -> None:
        self._leaving.set()

    def tell(self, error: Exception) -> int:
        """Say what failed first and where, after ``error`` ended this process; its exit code."""
        cause = self._read()
        if cause is None:
            raise error  # the file could not be written, perhaps for the same reason
        if cause["rank"] == self._rank and cause["code"] == 1:
            traceback.print_exception(error)
        self._say(cause)
        if self._rank != 0:
            time.sleep(_OTHERS_SECONDS)
        return int(cause["code"])

    def _note(self, step: int, error: Exception) -> None:
        said = in_words(error)
        text = said or "".join(traceback.format_exception_only(error)).strip()
        if any(words in text for words in _LOST):
            text = (
                "lost another process, which ended without a word; the system's log (dmesg) says "
                "if it was killed because memory was full"
            )
        cause = {"rank": self._rank, "step": step, "text": text, "code": 2 if said else 1}
        try:
            with open(self.path, "x") as file:
                file.write(json.dumps(cause))
        except OSError:
            return  # another rank was first, or the disk is what failed
        if "TORCHELASTIC_ERROR_FILE" in os.environ:  # what torchrun shows at its end
            try:
                raise RuntimeError(_line(cause)) from (None if said else error)
            except RuntimeError as named:
                get_error_handler().record_exception(named)

    def _read(self) -> dict[str, Any] | None:
        for _ in range(10):
            try:
                return dict(json.loads(self.path.read_text()))
            except FileNotFoundError:
                return None
            except json.JSONDecodeError:  # being written
                time.sleep(0.1)
        return None

    def _say(self, cause: dict[str, Any]) -> None:
        """Rank 0's words are where one looks; where a rank has its own log, so are its own."""
        if self._rank in (0, cause["rank"]) and not self._said:
            self._said = True
            print(f"ldm: {_line(cause)}", file=sys.stderr, flush=True)

    def _look(self) -> None:
        while not self._leaving.wait(_LOOK_SECONDS):
            cause = self._read()
            if cause is None:
                continue
            self._say(cause)
            # With a failed neighbour a process may end by itself, and then in good order.
            if not self._leaving.wait(_OTHERS_SECONDS if self._rank else _GRACE_SECONDS):
                try:
                    self.finish()
                    sys.stdout.flush()
                finally:
                    os._exit(cause["code"])


def _line(cause: dict[str, Any]) -> str:
    return f"rank {cause['rank']}, step {cause['step']}: {cause['text']}"
