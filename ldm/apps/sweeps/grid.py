"""Every combination of the values given, one after the other."""

from collections.abc import Iterator, Sequence

from ldm.apps.sweeps.job import Job, Outcome


class Grid:
    """A plan that takes its jobs in order and lets each come to its end."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs

    def jobs(self) -> Iterator[Job]:
        yield from self._jobs

    def is_hopeless(self, job: Job) -> bool:
        return False

    def concluded(self, job: Job, outcome: Outcome) -> Outcome:
        return outcome
