"""The script that sbatch is given for one job of a sweep (docs/clusters.md)."""

import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from ldm.apps.exit_codes import STOPPED
from ldm.apps.run_directory import ENDED
from ldm.apps.sweeps.job import Job

_NAME = 60  # characters of a job's name
_USUAL = "SIGUSR1"  # before the end of a job's time; an evaluation simply ends by it


def script(command: str, job: Job, launcher: DictConfig, extra: Sequence[str] = ()) -> str:
    """The script; it lies in the job's directory, where it can also be submitted by hand.

    A job that was stopped by the end of its time goes back into the queue: a training has saved,
    and an evaluation keeps its notes. Of others it keeps the exit code beside itself.
    """
    words = [sys.executable, "-m", "ldm.apps.main", command, *job.arguments, *extra]
    ended = shlex.quote(str((job.directory / ENDED).resolve()))
    stopped = STOPPED if command == "train" else 128 + int(signal.SIGUSR1)
    own = [line for line in launcher.extra if line.startswith("#SBATCH")]
    lines = [
        "#!/bin/bash",
        f"# One job of a sweep, written by `ldm {command} -m`: {job}",
        *(f"#SBATCH --{option}" for option in _options(command, job, launcher)),
        *own,
        *(line for line in launcher.extra if line not in own),
        f"rm -f {ended}",
        "# A process that ends takes the others with it, but leaves them a minute to end.",
        "# srun of SLURM 22.05 and later does not take over the cores that sbatch was asked for.",
        'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 --wait=60 '
        + shlex.join(words),
        "code=$?",
        f'if [ "$code" -eq {stopped} ]; then # the same job goes on when its turn comes',
        f'    scontrol requeue "$SLURM_JOB_ID" && exit {STOPPED}',
        "fi",
        f'echo "$code" > {ended}',
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"


def _options(command: str, job: Job, launcher: DictConfig) -> list[str]:
    config = job.config
    devices = int(config.get("devices", 1))
    tasks = devices if command == "train" else 1  # an evaluation starts its other processes itself
    gpus = launcher.gpus
    if gpus is None and config.get("accelerator") in ("gpu", "auto"):
        gpus = devices
    name = _signal(command, config)
    found = {
        "job-name": f"ldm-{job.name}"[:_NAME],
        "chdir": Path.cwd(),
        "output": job.log.resolve(),
        "open-mode": "append",
        "nodes": int(config.get("num_nodes", 1)),
        "ntasks-per-node": tasks,
        "cpus-per-task": launcher.cpus * devices // tasks,
        "time": launcher.time,
        "signal": None if name is None else f"{name}@{launcher.signal_seconds}",
        "partition": launcher.partition,
        "account": launcher.account,
        "gpus-per-node": gpus,
        "mem": launcher.memory,
    }
    options = [f"{key}={_quoted(value)}" for key, value in found.items() if value is not None]
    return [*options, "requeue"]


def _signal(command: str, config: DictConfig) -> str | None:
    """What tells a job that its time ends, as sbatch names it; None where it would not listen."""
    listens = list(config.stop_signals) if command == "train" else [_USUAL]
    if not listens:
        return None
    return (_USUAL if _USUAL in listens else str(listens[0])).removeprefix("SIG")


def _quoted(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text else text
