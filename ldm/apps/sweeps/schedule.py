"""The loop of a sweep: jobs are started, looked at, and ended, several at a time."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ldm.apps.exit_codes import INTERRUPTED, STOPPED
from ldm.apps.report.sweep import write_sweep
from ldm.apps.sweeps import states
from ldm.apps.sweeps.display import Display
from ldm.apps.sweeps.job import Job, Outcome
from ldm.apps.sweeps.kind import Kind
from ldm.apps.sweeps.launchers.launcher import Launcher, Started
from ldm.apps.sweeps.ledger import Ledger
from ldm.apps.sweeps.stops import Stops
from ldm.data.workers import STOP_SIGNALS

# Of these a job dies that does not listen, or not yet.
_STOPS = {int(signal.Signals[name]) for name in (*STOP_SIGNALS, "SIGINT")}


class Plan(Protocol):
    """Which jobs there are, and what is made of how they go."""

    def jobs(self) -> Iterator[Job]:
        """The jobs, each asked for when there is a place for it."""

    def is_hopeless(self, job: Job) -> bool:
        """Whether a running job shall end before its time."""

    def concluded(self, job: Job, outcome: Outcome) -> Outcome:
        """Take note of how a job ended, which may be seen otherwise here."""


@dataclass
class _Running:
    started: Started
    since: float
    pruned: bool = False
    told: bool = False  # to stop, as all of the sweep


class Schedule:
    """Runs the jobs of a plan."""

    def __init__(
        self, plan: Plan, *, kind: Kind, launcher: Launcher, ledger: Ledger, display: Display
    ) -> None:
        self.plan, self.kind, self.launcher = plan, kind, launcher
        self.ledger, self.display = ledger, display
        self._stops = Stops()
        self._running: dict[Job, _Running] = {}
        self._table = 0.0  # when it may be written again
        self._code = 0  # of a job that was told to stop, by whomever

    def run(self) -> int:
        """Run all jobs; the exit code.

        0 if none of the sweep has failed, 1 else, and the code of a stop where there was one.
        """
        with self._stops as stops:
            try:
                self._run(stops)
            except BaseException:
                self._tell_to_stop()  # no job goes on behind the back of a sweep that is no more
                raise
        if stops.count:
            return stops.code
        return self._code or (1 if self.ledger.failed() else 0)

    def _run(self, stops: Stops) -> None:
        jobs = self.plan.jobs()
        more, told = True, 0
        while True:
            while more and not stops.count and not self._code and self._has_place():
                job = next(jobs, None)
                if job is None:
                    more = False
                else:
                    self._begin(job)
            if not self._running or (stops.count and self.launcher.stays):
                break
            if stops.count > told or (self._code and not told):
                told = max(stops.count, 1)
                self._tell_to_stop()
            self._look()
            if self._running:
                time.sleep(self.launcher.poll_seconds)
        for job, running in self._running.items():
            self.display.say(job, f"goes on ({running.started.state()})")

    def _tell_to_stop(self) -> None:
        for running in self._running.values():
            if not self.launcher.stays:
                running.told = True
                running.started.stop()

    def _has_place(self) -> bool:
        return len(self._running) < self.launcher.parallel

    def _begin(self, job: Job) -> None:
        if self.kind.is_finished(job):
            self.display.say(job, "finished already")
            self._end(job, Outcome(states.FINISHED))
            return
        if not self.launcher.has(job):
            self.kind.began(job)
        self.ledger.began(job)
        self._running[job] = _Running(self.launcher.start(job), time.monotonic())
        self.display.began(job)

    def _look(self) -> None:
        for job, running in [*self._running.items()]:
            standing = self.kind.standing(job)
            code = running.started.poll()
            if code is None:
                self.display.stands(job, running.started.state(), standing)
                if not running.pruned and self.plan.is_hopeless(job):
                    running.pruned = True
                    running.started.stop()
                continue
            del self._running[job]
            outcome = self._outcome(job, running, code)
            outcome = self._end(job, outcome)
            self.display.ended(job, outcome, self.kind.standing(job))
            self._write_table()

    def _write_table(self) -> None:
        """Write the table, as often as that takes a small share of the time."""
        begun = time.monotonic()
        if begun >= self._table:
            write_sweep(self.ledger.root)
            self._table = begun + 20.0 * (time.monotonic() - begun)

    def _outcome(self, job: Job, running: _Running, code: int) -> Outcome:
        seconds = time.monotonic() - running.since
        if code == 0:
            return Outcome(states.FINISHED, seconds)
        if running.pruned:
            return Outcome(states.PRUNED, seconds)
        was_told = running.told or self._stops.count  # if not by us, then with us
        if code in (STOPPED, INTERRUPTED) or (was_told and -code in _STOPS):
            self._code = self._code or (code if code > 0 else STOPPED)
            return Outcome(states.STOPPED, seconds)
        return Outcome(states.FAILED, seconds, running.started.why())

    def _end(self, job: Job, outcome: Outcome) -> Outcome:
        if outcome.state == states.FINISHED:
            self.kind.finished(job)
        outcome = self.plan.concluded(job, outcome)
        self.ledger.ended(job, outcome)
        return outcome
