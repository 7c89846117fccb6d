"""Jobs of a SLURM cluster: one sbatch each, followed by squeue and sacct."""

import subprocess
import time
from collections.abc import Sequence
from shutil import which

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.apps.exit_codes import FAILED, FINISHED, INTERRUPTED
from ldm.apps.run_directory import ENDED, QUEUED, SCRIPT
from ldm.apps.sweeps.job import Job, last_words
from ldm.apps.sweeps.launchers.sbatch import script
from ldm.manifest import atomic, read_json, write_json

_COMMANDS = ("sbatch", "squeue", "scancel")
_OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
_LOOKS = 8  # at a job that has left the queue, before nobody is expected to say how it ended


class SlurmLauncher:
    """Jobs in the queue, which outlive the sweep; the same sweep again takes them up."""

    stays = True

    def __init__(self, command: str, config: DictConfig, extra: Sequence[str] = ()) -> None:
        if missing := [name for name in _COMMANDS if which(name) is None]:
            raise UserError(
                f"launcher=slurm: {', '.join(missing)} cannot be called here. Start the sweep on "
                "a machine of the cluster, or leave launcher= out."
            )
        self.command, self.config, self.extra = command, config, list(extra)
        self.parallel, self.poll_seconds = int(config.parallel), float(config.poll_seconds)
        self.queue = Queue(self.poll_seconds)

    def start(self, job: Job) -> "SlurmJob":
        """Submit a job, unless it is in the queue since an earlier command."""
        known, begin = job.directory / QUEUED, job.said
        number = str(read_json(known)["job"]) if known.is_file() else None
        if number is None or not self.queue.has(number):
            number = self._submit(job)
            write_json(known, {"job": number})
            self.queue.forget()
        return SlurmJob(job, number, self.queue, begin)

    def _submit(self, job: Job) -> str:
        (job.directory / ENDED).unlink(missing_ok=True)
        with atomic(job.directory / SCRIPT) as temporary:
            temporary.write_text(script(self.command, job, self.config, self.extra))
        done = _call(["sbatch", "--parsable", str(job.directory / SCRIPT)])
        number = done.stdout.strip().partition(";")[0]
        if done.returncode or not number.isdigit():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise UserError(
                f"sbatch refused {job.directory / SCRIPT}: {said[-1] if said else 'no reason'}. "
                "See launcher.partition, time, gpus, memory, account."
            )
        return number


class Queue:
    """The user's jobs in the queue with their states, asked for once in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._states: dict[str, str] | None = None
        self._next = 0.0

    def has(self, number: str) -> bool:
        """Whether a job waits or runs."""
        return self.state(number) is not None

    def state(self, number: str) -> str | None:
        """The state of a job in the queue, None where it is not in it."""
        if self._states is None or time.monotonic() >= self._next:
            done = _call(["squeue", "--noheader", "--me", "--format=%i %T"])
            self._next = time.monotonic() + self.seconds
            if done.returncode == 0:  # else the controller is busy: it is asked again
                rows = [line.split() for line in done.stdout.splitlines()]
                self._states = {r[0]: r[1] for r in rows if len(r) == 2 and r[1] not in _OVER}
            elif self._states is None:
                raise UserError(f"squeue does not answer: {done.stderr.strip()}")
        return self._states.get(number)

    def forget(self) -> None:
        """Ask anew at the next look: a job was submitted."""
        self._next = 0.0


class SlurmJob:
    """One job of the cluster by its number; its output begins at byte ``begin``."""

    def __init__(self, job: Job, number: str, queue: Queue, begin: int) -> None:
        self.job, self.number, self.queue, self._begin = job, number, queue, begin
        self._looks, self._stopped, self._ended = 0, False, ""

    def poll(self) -> int | None:
        file = self.job.directory / ENDED
        if file.is_file() and (text := file.read_text().strip()).isdigit():
            return int(text)
        if self.queue.has(self.number):
            self._looks = 0
            return None
        self._looks += 1
        # One more look: a job that goes back into the queue is out of it for a moment.
        return None if self._looks == 1 else self._by_sacct()

    def state(self) -> str:
        state = (self.queue.state(self.number) or "").lower()
        return f"job {self.number} {state}".rstrip()

    def stop(self) -> None:
        """Ctrl-C for a job that runs, which it does not answer by going back into the queue."""
        self._stopped = True
        _call(["scancel", "--state=PENDING", self.number])
        _call(["scancel", "--signal=INT", self.number])

    def why(self) -> str:
        said = last_words(self.job.log, self._begin)
        return ": ".join(filter(None, [self._ended, said])) or "the reason is not known"

    def _by_sacct(self) -> int | None:
        """What the accounting says of a job whose script could not, as one that was killed."""
        done = _call(["sacct", "-n", "-P", "-X", "-j", self.number, "-o", "State,ExitCode"])
        rows = [line.split("|") for line in done.stdout.splitlines() if "|" in line]
        if done.returncode == 0 and rows:
            state, code = rows[-1][0].split(" ")[0], rows[-1][1].partition(":")[0]
            if state == "COMPLETED":
                return FINISHED
            if state not in ("PENDING", "RUNNING", "REQUEUED", "COMPLETING"):
                self._ended = f"SLURM's job {self.number} ended as {state}"
                cancelled = state == "CANCELLED" and self._stopped
                return INTERRUPTED if cancelled else int(code) or FAILED
        if self._looks < _LOOKS:
            return None
        self._ended = (
            f"SLURM's job {self.number} is gone, and neither its script nor sacct says how it ended"
        )
        return FAILED


def _call(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))
