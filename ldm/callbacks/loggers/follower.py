"""What keeps a program up with metrics.jsonl, beside training and whatever becomes of it."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from ldm.callbacks.loggers.backend import Backend, Picture, Run, pictures_of
from ldm.callbacks.rows import FILE, Row, rows_after
from ldm.manifest import read_json, write_json

OPENING_SECONDS = 10.0  # that training waits at most, so that what is said comes first
CLOSING_SECONDS = 30.0
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 60.0, 1800.0

_NOTHING = -1  # the step of a backend that holds no row


class Follower:
    """Brings ``backend`` the rows of RUN/metrics.jsonl and sheets of pictures, in a thread.

    The run goes on at ``start_step``; rows beyond it that the backend holds will come once more.
    What fails is said once, and tried again later from where it stopped: no row is lost, for all
    are in the file. RUN/loggers/NAME.json holds how far the backend is (its last step and, as one
    step may have several, the number of rows), and its state. A backend that joins late is brought
    what there is, sheets in RUN/samples with their ``captions`` too.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        run: Run,
        *,
        start_step: int,
        captions: Sequence[str] = (),
    ) -> None:
        self.name, self.backend, self.run = name, backend, run
        self.start_step, self.captions = start_step, captions
        self.failure: str | None = None
        self._rows = run.directory / FILE
        self._note = run.directory / "loggers" / f"{name}.json"
        self._offset, self._held = 0, _NOTHING  # of the file; the last step that is held
        self._count: int | None = None  # rows of the file that are held; None where not known
        self._earlier_end: int | None = None  # where the rows of earlier sittings end
        self._is_open, self._has_begun = False, False
        self._images_seen: tuple[int, Any] = (-1, None)  # at which step how many
        self._pictures: deque[Picture] = deque()
        self._retry_at, self._retry_seconds = 0.0, RETRY_SECONDS
        self._awake, self._opened = threading.Event(), threading.Event()
        self._ends, self._failed = False, False
        self._thread = threading.Thread(target=self._follow, name=f"logger {name}", daemon=True)

    def start(self) -> None:
        """Begin, before the first row of this sitting is written.

        Waits a little until the backend is open, or is known not to open.
        """
        self._earlier_end = self._rows.stat().st_size if self._rows.is_file() else 0
        self._thread.start()
        if not self._opened.wait(OPENING_SECONDS):
            self._say(f"not open after {OPENING_SECONDS:g} s. Training begins, and it may follow.")

    def wake(self) -> None:
        """Rows have been written."""
        self._awake.set()

    def show(self, picture: Picture) -> None:
        """A sheet of pictures has been written."""
        self._pictures.append(picture)
        self._awake.set()

    def finish(self, *, failed: bool) -> None:
        """Bring what is left and close; what takes longer than CLOSING_SECONDS is left."""
        self._ends, self._failed = True, failed
        self._awake.set()
        if self._thread.ident is None:
            return
        self._thread.join(CLOSING_SECONDS)
        if self._thread.is_alive():
            self._say(f"not done {CLOSING_SECONDS:g} s after training, so it is left.")

    def bring_all(self) -> None:
        """Bring all there is and close, without a thread; raises whatever the backend raises."""
        try:
            self._bring()
        except BaseException:
            self._close(failed=True)
            raise
        self.backend.close(failed=False)

    def _follow(self) -> None:
        while True:
            last = self._ends  # as it is before the rows are read
            if last or time.monotonic() >= self._retry_at:
                self._try()
            if last:
                break
            self._awake.wait(self._retry_at - time.monotonic() if self.failure else None)
            self._awake.clear()
        self._close(failed=self._failed)

    def _try(self) -> None:
        try:
            self._bring()
        # Whatever it is: a program that shows a run is not worth the run.
        except Exception as error:
            self._leave_off(error)
            return
        finally:
            self._opened.set()
        if self.failure is not None:
            self._say("works again, and has been brought what it missed.")
        self.failure, self._retry_at, self._retry_seconds = None, 0.0, RETRY_SECONDS

    def _leave_off(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": .")
            self._say(
                f"{self.failure}. Training goes on, metrics.jsonl has every line, and this is "
                f"tried again. By hand, later: ldm logs replay run={self.run.directory} "
                f"logger={self.name}"
            )
        self._close(failed=True)
        self._retry_at = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, LONGEST_RETRY_SECONDS)

    def _bring(self) -> None:
        if not self._is_open:
            self._open()
            self._opened.set()
        if not self._has_begun:
            rows, end = rows_after(self._rows, 0, self._earlier_end)
            if self._count is None:
                self._count = sum(row["step"] <= self._held for row in rows)
                new = [row for row in rows if row["step"] > self._held]
            else:
                new = rows[self._count :]
            self._take(new, end)
        self._take(*rows_after(self._rows, self._offset))
        while self._pictures:
            self.backend.show(self._pictures.popleft())  # once: it may be what does not work

    def _take(self, rows: list[Row], end: int) -> None:
        if rows:
            self.backend.write([self._with_images_seen(row) for row in rows])
            self._held = max(self._held, *(row["step"] for row in rows))
            assert self._count is not None
            self._count += len(rows)
        self._offset, self._has_begun = end, True
        if rows:
            self._write_note()

    def _open(self) -> None:
        rewound_from = None
        if self.backend.rebuilt:
            self._held, self._offset = _NOTHING, 0
        elif not self._has_begun:
            note = read_json(self._note) if self._note.is_file() else {}
            reached, count = note.pop("step", _NOTHING), note.pop("rows", None)
            if note:
                self.backend.load_state_dict(note)
            self._held = min(reached, self.start_step)
            rewound_from = reached if reached > self.start_step else None
            self._count = count if rewound_from is None else None  # rows beyond are dropped
        held = None if self._held == _NOTHING else self._held
        said = self.backend.open(self.run, held, rewound_from)
        self._is_open = True
        if said:
            print(said, flush=True)
        self._write_note()
        if not self._has_begun:
            there = pictures_of(self.run.directory, self.captions)
            self._pictures.extend(p for p in there if self._held < p.step <= self.start_step)

    def _with_images_seen(self, row: Row) -> Row:
        """Rows of validation have what the row of training of the same step says."""
        step = row["step"]
        if "images_seen" in row:
            self._images_seen = (step, row["images_seen"])
        elif self._images_seen[0] == step:
            return row | {"images_seen": self._images_seen[1]}
        return row

    def _write_note(self) -> None:
        if not self.backend.rebuilt:
            counted = {} if self._count is None else {"rows": self._count}
            write_json(self._note, {"step": self._held} | counted | self.backend.state_dict())

    def _close(self, *, failed: bool) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            self.backend.close(failed=failed)
        except Exception as error:  # as above
            if self.failure is None:
                self._say(f"could not be closed ({type(error).__name__}: {error}).")

    def _say(self, what: str) -> None:
        print(f"{self.name}: {what}", flush=True)
