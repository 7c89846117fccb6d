"""What the loop of a sweep must know of the command that its jobs run."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from omegaconf import DictConfig

from ldm.apps.report.job_numbers import Records
from ldm.apps.sweeps.job import Job


class Standing(NamedTuple):
    """How far a job is: done of total (None where that is not known), and a word on its numbers."""

    done: int = 0
    total: int | None = None
    note: str = ""


class Kind(Protocol):
    """Sweeps over one command, as `ldm train`: how a job is made, known as finished, and read."""

    def words(self, fixed: Sequence[str], choice: Sequence[str], directory: Path) -> list[str]:
        """The words of a job's command."""

    def require_sound(self, job: Job, *, here: bool) -> None:
        """UserError for what would stop a job at once; ``here``: it is to run on this machine."""

    def is_finished(self, job: Job) -> bool:
        """Whether a job has nothing left to do, with the settings that it has now."""

    def began(self, job: Job) -> None:
        """A job is about to be started."""

    def finished(self, job: Job) -> None:
        """A job has come to its end."""

    def standing(self, job: Job) -> Standing:
        """How far a job is."""

    def require_objective(self, name: str, config: DictConfig) -> None:
        """UserError where a job with these settings does not come to a number of this name."""

    def so_far(self, job: Job, name: str) -> list[tuple[int, float]]:
        """The values of a number by step, of a job that is running."""

    def records(self, directory: Path) -> Records:
        """The numbers of a job."""

    def protocol(self, name: str, config: DictConfig) -> dict[str, object]:
        """What a number of a job will mean, as far as its settings alone say; {} where not."""
