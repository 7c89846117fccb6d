"""Jobs of a SLURM cluster: one sbatch each, followed by squeue and sacct."""

import subprocess
import time
from collections.abc import Sequence
from shutil import which

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.apps.exit_codes import FAILED, FINISHED, INTERRUPTED
from ldm.apps.run_directory import ENDED, QUEUED, SCRIPT, exit_code
from ldm.apps.sweeps.job import Job, last_words
from ldm.apps.sweeps.launchers.sbatch import script
from ldm.manifest import atomic, read_json, write_json

_COMMANDS = ("sbatch", "squeue", "scancel")
_OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
_UNKNOWN = "UNKNOWN"  # a job's state while squeue does not answer
_TRIES = 10  # to submit a job that no limit can hold back, before it counts as failed
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
        self._numbers: list[str] = []  # of all jobs that this sweep has had in the queue

    def start(self, job: Job) -> "SlurmJob":
        """Submit a job; UserError where the first of all is refused, as the others would be.

        One that is refused later, for a limit or a busy controller, is tried again as it is polled.
        """
        started = SlurmJob(job, self)
        if not started.begin() and not self._numbers:
            raise UserError(started.why())
        return started

    def has(self, job: Job) -> bool:
        known = job.directory / QUEUED
        if not known.is_file():
            return False
        return self.queue.state(str(read_json(known)["job"])) is not None

    def number_of(self, job: Job) -> str:
        """Its number in the queue, where it may be already; UserError where it is refused."""
        known = job.directory / QUEUED
        if self.has(job):
            number = str(read_json(known)["job"])
            if self.queue.state(number) == _UNKNOWN:
                raise UserError(f"squeue does not answer: {self.queue.said}")
        else:
            number = self._submit(job)
            write_json(known, {"job": number})
            self.queue.forget()
        self._numbers.append(number)
        return number

    def may_be_full(self) -> bool:
        """Whether other jobs of this sweep are in the queue, whose places a limit may count."""
        return any(self.queue.state(number) is not None for number in self._numbers)

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
        self.said = ""  # by squeue, which did not answer
        self._states: dict[str, str] | None = None
        self._next = 0.0

    def state(self, number: str) -> str | None:
        """The state of a job in the queue, None where it is not in it.

        It is unknown as long as squeue does not answer, as that of a busy controller.
        """
        if time.monotonic() >= self._next:
            done = _call(["squeue", "--noheader", "--me", "--format=%i %T"])
            self._next = time.monotonic() + self.seconds
            self.said = done.stderr.strip()
            rows = [line.split() for line in done.stdout.splitlines()]
            found = {r[0]: r[1] for r in rows if len(r) == 2 and r[1] not in _OVER}
            self._states = found if done.returncode == 0 else None
        return _UNKNOWN if self._states is None else self._states.get(number)

    def forget(self) -> None:
        """Ask anew at the next look: a job was submitted."""
        self._next = 0.0


class SlurmJob:
    """One job of the cluster by its number, None until it is in the queue."""

    def __init__(self, job: Job, launcher: SlurmLauncher) -> None:
        self.job, self.launcher = job, launcher
        self.number: str | None = None
        self._begin = job.said  # its output begins at this byte
        self._looks, self._stopped, self._ended = 0, False, ""

    def begin(self) -> bool:
        """Put it into the queue, or take it up from there; whether that was possible."""
        try:
            self.number = self.launcher.number_of(self.job)
        except UserError as error:
            self._ended = str(error)
        else:
            self._looks, self._ended = 0, ""
        return self.number is not None

    def poll(self) -> int | None:
        if self.number is None:
            self._looks += not self.launcher.may_be_full()
            over = not self.begin() and (self._stopped or self._looks >= _TRIES)
            return FAILED if over else None
        if (code := exit_code(self.job.directory)) is not None:
            return code
        if self.launcher.queue.state(self.number) is not None:
            self._looks = 0
            return None
        self._looks += 1
        # One more look: a job that goes back into the queue is out of it for a moment.
        return None if self._looks == 1 else self._by_sacct(self.number)

    def state(self) -> str:
        if self.number is None:
            return f"not in the queue yet: {self._ended}"
        state = (self.launcher.queue.state(self.number) or "").lower()
        return f"job {self.number} {state}".rstrip()

    def stop(self) -> None:
        """Ctrl-C for a job that runs, which it does not answer by going back into the queue."""
        self._stopped = True
        if self.number is None:
            return
        _call(["scancel", "--state=PENDING", self.number])
        _call(["scancel", "--signal=INT", self.number])

    def why(self) -> str:
        said = "" if self.number is None else last_words(self.job.log, self._begin)
        return ": ".join(filter(None, [self._ended, said])) or "the reason is not known"

    def _by_sacct(self, number: str) -> int | None:
        """What the accounting says of a job whose script could not, as one that was killed."""
        done = _call(["sacct", "-n", "-P", "-X", "-j", number, "-o", "State,ExitCode"])
        rows = [line.split("|") for line in done.stdout.splitlines() if "|" in line]
        if done.returncode == 0 and rows:
            state, code = rows[-1][0].split(" ")[0], rows[-1][1].partition(":")[0]
            if state == "COMPLETED":
                return FINISHED
            if state not in ("PENDING", "RUNNING", "REQUEUED", "COMPLETING"):
                self._ended = f"SLURM's job {number} ended as {state}"
                cancelled = state == "CANCELLED" and self._stopped
                return INTERRUPTED if cancelled else int(code) or FAILED
        if self._looks < _LOOKS:
            return None
        self._ended = (
            f"SLURM's job {number} is gone, and neither its script nor sacct says how it ended"
        )
        return FAILED


def _call(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))
