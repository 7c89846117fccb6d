"""A search: trials that follow from those before, each a job of the sweep."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ldm.apps.errors import UserError
from ldm.apps.sweeps import states
from ldm.apps.sweeps.job import Job, Outcome
from ldm.apps.sweeps.kind import Kind
from ldm.apps.sweeps.ledger import Ledger
from ldm.apps.sweeps.objective import Objective, not_comparable
from ldm.apps.sweeps.study import Study, Trial

_PROTOCOL = "protocol"


class Search:
    """A plan that asks a study for its jobs, and tells it what came of them.

    ``job_of`` makes a job of a number, counted from 1, and varied words. Interrupted trials come
    first, with what they were given.
    """

    def __init__(
        self,
        study: Study,
        *,
        trials: int,
        objective: Objective,
        kind: Kind,
        ledger: Ledger,
        job_of: Callable[[int, tuple[str, ...]], Job],
    ) -> None:
        self.study, self.trials, self.objective = study, trials, objective
        self.kind, self.ledger, self.job_of = kind, ledger, job_of
        self._told: dict[int, int] = {}  # by trial, of how many values the study knows
        self._is_vain = False

    def jobs(self) -> Iterator[Job]:
        for trial in self.study.unfinished():
            yield self._job(trial)
        while len(self.study) < self.trials and not self._is_vain:
            yield self._job(self.study.ask())

    def is_hopeless(self, job: Job) -> bool:
        values = self.kind.so_far(job, self.objective.name)
        if len(values) == self._told.get(job.number, 0):
            return False
        self._told[job.number] = len(values)
        return self.study.is_hopeless(job.number - 1, values)

    def concluded(self, job: Job, outcome: Outcome) -> Outcome:
        """Tell the study; a number that is not there, or not comparable, is a failure."""
        number = job.number - 1
        if outcome.state == states.STOPPED:
            return outcome  # remains unfinished in the study
        if outcome.state == states.PRUNED:
            self.study.tell(number, None, "pruned")
            return outcome
        if outcome.state == states.FAILED:
            self.study.tell(number, None, "fail", why=outcome.why)
            return outcome
        records = self.kind.records(job.directory)
        self._is_vain = self.objective.name not in records  # nor would the others have it
        try:
            record = self.objective.record(records)
            self._require_same_protocol(record["protocol"])
        except ValueError as error:
            self.study.tell(number, None, "fail", why=str(error))
            return replace(outcome, state=states.FAILED, why=str(error))
        self.study.tell(number, record["value"], "complete", protocol=dict(record[_PROTOCOL]))
        return outcome

    def _job(self, trial: Trial) -> Job:
        job = self.job_of(trial.number + 1, trial.words)
        self.ledger.enter([job])
        return job

    def _require_same_protocol(self, protocol: dict[str, Any]) -> None:
        """ValueError where the first trial's number was obtained otherwise."""
        first = next((n[_PROTOCOL] for _, n in self.study.ended() if _PROTOCOL in n), None)
        if first and (keys := not_comparable(first, protocol)):
            raise ValueError(
                f"{self.objective.name} was measured otherwise than in the trials before "
                f"({', '.join(keys)}), so it cannot be compared with theirs"
            )


def require_comparable(objective: Objective, kind: Kind, jobs: list[Job]) -> None:
    """UserError where a varied setting changes what the objective means."""
    first = kind.protocol(objective.name, jobs[0].config)
    for job in jobs[1:]:
        if keys := not_comparable(first, kind.protocol(objective.name, job.config)):
            raise UserError(
                f"{objective.name} of {job} and of {jobs[0]} cannot be compared, for {keys[0]} "
                "differs, on which its meaning depends. Search for another objective, as "
                "sweep.objective=kid_own-128 with evaluate_every= and metrics=[kid_own]; or "
                "give that setting one value."
            )
