"""A launcher of a sweep's jobs that runs them in this process, as starting one takes seconds."""

import contextlib

from ldm.apps.sweeps.job import last_words


class Ended:
    """A job that came to its end when it was started."""

    def __init__(self, job, code):
        self.job, self.code = job, code

    def poll(self):
        return self.code

    def state(self):
        return "running"

    def stop(self):
        raise AssertionError("it has ended")

    def why(self):
        return last_words(self.job.log, 0)


class InProcess:
    """Starts a job by calling ``run(job)``, which gives its exit code."""

    stays, parallel, poll_seconds = False, 1, 0.0

    def __init__(self, run):
        self.run = run

    def has(self, job):
        return False

    def start(self, job):
        job.directory.mkdir(parents=True, exist_ok=True)
        said_to = (contextlib.redirect_stdout, contextlib.redirect_stderr)
        with open(job.log, "a") as log, said_to[0](log), said_to[1](log):
            return Ended(job, self.run(job))
