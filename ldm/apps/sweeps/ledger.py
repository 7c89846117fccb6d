"""The ledger of a sweep: sweep.json, from which a table can be made at any time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ldm.apps.report.sweep_rows import SWEEP
from ldm.apps.run_directory import LOCK
from ldm.apps.sweeps import states
from ldm.apps.sweeps.job import Job, Outcome
from ldm.apps.sweeps.same import keys_of, require_same
from ldm.apps.sweeps.space import Dimension
from ldm.data.lock import alone
from ldm.manifest import read_json, write_json


class Ledger:
    """Which jobs there are, with their settings and how they stand.

    Jobs of earlier commands with other values stay in it; UserError where they were of another
    command or method, varied other settings, or had others ``fixed``, as typed. By directory,
    ``finished`` is what the numbers of finished evaluations followed from, and ``begun`` what those
    that were started will follow from, with the state of the file that was there before.
    """

    def __init__(
        self, root: Path, head: dict[str, Any], varied: Sequence[str], fixed: Sequence[str] = ()
    ) -> None:
        self.root = root
        self._head = head | {"fixed": list(fixed)}
        self._varied = list(varied)
        self._read()

    def _read(self) -> None:
        before = read_json(self.root / SWEEP) if (self.root / SWEEP).is_file() else {}
        jobs: list[dict[str, Any]] = before.get("jobs", [])
        if jobs:
            require_same(self.root, before, self._head, self._varied)
            self._varied = keys_of(jobs[0])
        self.finished: dict[str, str] = dict(before.get("finished", {}))
        self.begun: dict[str, list[str]] = dict(before.get("begun", {}))
        self._jobs = {job["directory"]: job for job in jobs}
        for job in jobs:
            if job.get("state") == states.RUNNING:
                job["state"] = states.WAITING

    def ordered(self, space: Sequence[Dimension]) -> list[Dimension]:
        """What is varied in the order of the jobs that are there, which their names follow."""
        return sorted(space, key=lambda dimension: self._varied.index(dimension.key))

    @contextmanager
    def held(self) -> Iterator[None]:
        """The sweep's directory for one command at a time; ValueError where another is at it."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = self.root / LOCK
        refusal = f"{self.root} is being swept by another command; wait for it, or stop it."
        with alone(lock, refusal):
            try:
                self._read()  # another command may have been at it until now
                yield
            finally:
                lock.unlink(missing_ok=True)

    def enter(self, jobs: Sequence[Job]) -> None:
        """Add jobs that are to be done."""
        for job in jobs:
            entry = self._jobs.setdefault(job.name, {"directory": job.name, "seconds": 0.0})
            entry["settings"] = [word.split("=", 1) for word in job.choice]  # in their order
            entry.setdefault("state", states.WAITING)
        self._write()

    def began(self, job: Job) -> None:
        """A job is running."""
        self._jobs[job.name] |= {"state": states.RUNNING, "why": ""}
        self._write()

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A job ended in some way; the seconds of its sittings add up."""
        entry = self._jobs[job.name]
        entry |= {"state": outcome.state, "why": outcome.why}
        entry["seconds"] = round(entry.get("seconds", 0.0) + outcome.seconds, 1)
        self._write()

    def failed(self) -> list[dict[str, Any]]:
        """The jobs that failed, of this command or an earlier one."""
        return [job for job in self._jobs.values() if job["state"] == states.FAILED]

    def in_words(self) -> str:
        """How many jobs there are, and how they stand."""
        found = [job["state"] for job in self._jobs.values()]
        others = [
            f"{found.count(s)} {s}" for s in states.ALL if s in found and s != states.FINISHED
        ]
        return ", ".join([f"{found.count(states.FINISHED)} of {len(found)} jobs finished", *others])

    def _write(self) -> None:
        jobs = [*self._jobs.values()]
        noted = {"jobs": jobs, "finished": self.finished, "begun": self.begun}
        write_json(self.root / SWEEP, self._head | noted)
