"""What the loop of a sweep asks of a launcher, and of a job that it has started."""

from typing import Protocol

from ldm.apps.sweeps.job import Job


class Started(Protocol):
    """A job that is under way."""

    def poll(self) -> int | None:
        """Its exit code, None while it goes on."""

    def state(self) -> str:
        """Where it is, in a word: "running", "queued"."""

    def stop(self) -> None:
        """Ask it to save and end; it goes on until ``poll`` says so."""

    def why(self) -> str:
        """Why it failed, in one line."""


class Launcher(Protocol):
    """Starts jobs; ``stays``: they go on without the sweep that started them."""

    parallel: int
    poll_seconds: float
    stays: bool

    def has(self, job: Job) -> bool:
        """Whether it is at work on a job already, since an earlier command."""

    def start(self, job: Job) -> Started:
        """Start a job, or take up one that is under way since an earlier command."""
