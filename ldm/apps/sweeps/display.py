"""A sweep for people: a bar for each running job on a terminal, lines elsewhere."""

import sys
import time

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ldm.apps.progress import LINE_SECONDS, console
from ldm.apps.report.numbers import duration
from ldm.apps.sweeps import states
from ldm.apps.sweeps.job import Job, Outcome
from ldm.apps.sweeps.kind import Standing


class Display:
    """Says when jobs begin and end, and now and then how far they are; ``total`` jobs in all."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._lines: dict[Job, float] = {}
        self._tasks: dict[Job, TaskID] = {}
        self._live: Progress | None = None
        if sys.stdout.isatty():
            columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
            self._live = Progress(*columns, TextColumn("{task.fields[note]}"), console=console)
            self._live.start()

    def say(self, job: Job, what: str) -> None:
        """A line about a job, which stays."""
        line = f"[{job.number}/{self.total}] {job}: {what}"
        if self._live is None:
            print(line, flush=True)
        else:
            self._live.console.print(line, markup=False, highlight=False)

    def began(self, job: Job) -> None:
        """A job is under way."""
        self._lines[job] = time.monotonic()
        self.say(job, f"output in {job.log}")
        if self._live is not None:
            name = f"[{job.number}/{self.total}] {job}".replace("[", "\\[")
            self._tasks[job] = self._live.add_task(name, total=None, note="starts")

    def stands(self, job: Job, state: str, standing: Standing) -> None:
        """How far a running job is."""
        of = "" if standing.total is None else f" of {standing.total}"
        told = f"step {standing.done}{of}" if standing.done else "no step logged yet"
        text = ", ".join(filter(None, [state, told if standing.total else "", standing.note]))
        if self._live is not None:
            done = {"total": standing.total, "completed": standing.done}
            self._live.update(self._tasks[job], note=text, **done)  # type: ignore[arg-type]
        elif time.monotonic() - self._lines[job] > LINE_SECONDS:
            self._lines[job] = time.monotonic()
            self.say(job, text)

    def ended(self, job: Job, outcome: Outcome, standing: Standing) -> None:
        """A job has ended."""
        if self._live is not None and job in self._tasks:
            self._live.remove_task(self._tasks.pop(job))
        took = f"{outcome.state} after {duration(outcome.seconds)}"
        told = outcome.why if outcome.state == states.FAILED else standing.note
        self.say(job, ", ".join(filter(None, [took, told])))

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
