"""The ledger of a sweep: sweep.json, from which a table can be made at any time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ldm.apps.report.sweep_rows import SWEEP
from ldm.apps.run_directory import LOCK
from ldm.apps.sweeps.job import FINISHED, RUNNING, STATES, WAITING, Job, Outcome
from ldm.data.lock import alone
from ldm.manifest import read_json, write_json


class Ledger:
    """Which jobs there are, with their settings and how they stand.

    Jobs of earlier commands that varied the same settings stay in it. ``finished`` is what the
    numbers of finished evaluations followed from, by directory.
    """

    def __init__(self, root: Path, head: dict[str, Any], varied: Sequence[str]) -> None:
        self.root = root
        before = read_json(root / SWEEP) if (root / SWEEP).is_file() else {}
        self.finished: dict[str, str] = dict(before.get("finished", {}))
        self._head = head
        jobs = [job for job in before.get("jobs", []) if _keys(job) == list(varied)]
        self._jobs: dict[str, dict[str, Any]] = {job["directory"]: job for job in jobs}
        for job in jobs:
            if job.get("state") == RUNNING:
                job["state"] = WAITING

    @contextmanager
    def held(self) -> Iterator[None]:
        """The sweep's directory for one command at a time; ValueError where another is at it."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = self.root / LOCK
        refusal = f"{self.root} is being swept by another command; wait for it, or stop it."
        with alone(lock, refusal):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)

    def enter(self, jobs: Sequence[Job]) -> None:
        """Add jobs that are to be done."""
        for job in jobs:
            entry = self._jobs.setdefault(job.name, {"directory": job.name, "seconds": 0.0})
            entry["settings"] = [word.split("=", 1) for word in job.choice]  # in their order
            entry.setdefault("state", WAITING)
        self._write()

    def began(self, job: Job) -> None:
        """A job is running."""
        self._jobs[job.name] |= {"state": RUNNING, "why": ""}
        self._write()

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A job ended in some way; the seconds of its sittings add up."""
        entry = self._jobs[job.name]
        entry |= {"state": outcome.state, "why": outcome.why}
        entry["seconds"] = round(entry.get("seconds", 0.0) + outcome.seconds, 1)
        self._write()

    def in_words(self) -> str:
        """How many jobs there are, and how they stand."""
        found = [job["state"] for job in self._jobs.values()]
        others = [f"{found.count(s)} {s}" for s in STATES if s in found and s != FINISHED]
        return ", ".join([f"{found.count(FINISHED)} of {len(found)} jobs finished", *others])

    def _write(self) -> None:
        jobs = [*self._jobs.values()]
        write_json(self.root / SWEEP, self._head | {"jobs": jobs, "finished": self.finished})


def _keys(job: dict[str, Any]) -> list[str]:
    return [key for key, _ in job["settings"]]
