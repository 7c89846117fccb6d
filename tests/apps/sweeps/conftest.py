"""What tests of sweeps share: jobs that run in this process, for starting one takes seconds."""

import pytest

from tests.in_process import InProcess


@pytest.fixture
def jobs(monkeypatch):
    """Lets a function of a job stand for its process; lists the jobs that were started."""

    def by(run):
        started = []

        def noted(job):
            started.append(job)
            return run(job)

        monkeypatch.setattr(
            "ldm.apps.sweeps.command.make_launcher", lambda *settings: InProcess(noted)
        )
        return started

    return by


@pytest.fixture
def in_process(jobs, ldm):
    """Every job is the real command, in this process; the jobs that were started."""
    return jobs(lambda job: ldm("train", *job.arguments))
