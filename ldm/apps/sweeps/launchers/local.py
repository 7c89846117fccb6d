"""Jobs as processes of this machine, each with its share of the cores and GPUs."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from ldm.apps.evaluations.held import lock_of
from ldm.apps.machine import usable_cores
from ldm.apps.report.job_numbers import METRICS
from ldm.apps.run_directory import LOCK, STARTED
from ldm.apps.sweeps.job import Job, last_words
from ldm.data.lock import alone, is_held


class LocalLauncher:
    """``parallel`` processes at a time, whose output goes to a file in the job's directory."""

    stays = False
    poll_seconds = 0.2

    def __init__(self, command: str, *, parallel: int, extra: Sequence[str] = ()) -> None:
        self.command, self.parallel, self.extra = command, parallel, list(extra)
        self._places: dict[int, LocalJob] = {}

    def has(self, job: Job) -> bool:
        return False  # what an earlier command left is waited for, and the job begun then

    def start(self, job: Job) -> "LocalJob":
        """Start a job on the first place that is free."""
        busy = [i for i, started in self._places.items() if started.poll() is None]
        place = next(i for i in range(self.parallel) if i not in busy)
        words = [sys.executable, "-m", "ldm.apps.main", self.command, *job.arguments, *self.extra]
        started = LocalJob(job, words, os.environ | share(place, self.parallel, job))
        self._places[place] = started
        return started


class LocalJob:
    """One process, once no other is at work in its directory.

    It is in a session of its own: what a terminal or a shell sends to all processes of the sweep
    reaches the sweep alone, which then asks its jobs to stop in the way that they listen to.
    """

    def __init__(self, job: Job, words: Sequence[str], environment: dict[str, str]) -> None:
        self.job, self.words, self.environment = job, list(words), environment
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._begin = job.said
        self._start()

    def poll(self) -> int | None:
        if self._process is None:
            if self._stopped:
                return -signal.SIGTERM
            self._start()
            return None
        return self._process.poll()

    def state(self) -> str:
        return "running" if self._process else "waits for another process in its directory"

    def stop(self) -> None:
        """The first of the signals that it listens to; Ctrl-C where it was told before."""
        names = self.job.config.get("stop_signals", ["SIGTERM"]) or ["SIGINT"]
        number = signal.SIGINT if self._stopped else signal.Signals[names[0]]
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def why(self) -> str:
        code = self.poll()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
            return f"killed by {name}{hint}"
        return last_words(self.job.log, self._begin) or f"exit code {code}"

    def _start(self) -> None:
        """Start the process, unless another is at work in its place.

        That is one of an ended sweep, or a trial of the same values; or somebody's by hand.
        """
        directory = self.job.directory
        directory.mkdir(parents=True, exist_ok=True)
        mine = directory / STARTED
        if any(map(is_held, (mine, directory / LOCK, lock_of(directory / METRICS)))):
            return
        # The process keeps this lock for its life; its own it has only after seconds of imports.
        with alone(mine, f"{directory} has its process.") as lock, open(self.job.log, "ab") as log:
            self._process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )


def share(place: int, parallel: int, job: Job) -> dict[str, str]:
    """What tells the job on a place its cores and GPUs; {} where it has the machine for itself."""
    if parallel == 1:
        return {}
    devices = int(job.config.get("devices", 1))
    threads = max(1, usable_cores() // (parallel * devices))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = min(threads, int(asked)) if asked.isdigit() and int(asked) > 0 else threads
    found = {"OMP_NUM_THREADS": str(threads)}
    if job.config.get("accelerator") != "cpu" and (gpus := _gpus()):
        found["CUDA_VISIBLE_DEVICES"] = ",".join(
            gpus[(place * devices + i) % len(gpus)] for i in range(min(devices, len(gpus)))
        )
    return found


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
