"""`ldm train -m key=a,b`: a grid of runs, each a process with a readable directory of its own."""

import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser

from ldm.apps.child import run_child
from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.exit_codes import INTERRUPTED, STOPPED
from ldm.apps.words import LITERAL, quoted
from ldm.manifest import fingerprint

LONGEST = 120  # characters of a job's directory name


class Job(NamedTuple):
    """One combination of a grid: its varied words, and all words of its command."""

    choice: list[str]
    arguments: list[str]

    def __str__(self) -> str:
        return " ".join(self.choice)


def sweep(words: Sequence[str], *, config_dir: str | None) -> int:
    """Run every combination one after the other; 0 if all succeeded, else 1.

    ``sweep_dir=DIR`` (default sweeps/<experiment>) holds a directory per job, named by the varied
    keys. The same command again skips finished jobs and takes up the interrupted one.
    """
    sweep_dir, words = take(list(words), "sweep_dir")
    fixed, choices = combinations(words)
    named = [word.partition("=")[2] for word in fixed if word.startswith("experiment=")]
    root = Path(sweep_dir or f"sweeps/{named[0] if named else 'train'}")
    jobs = [Job(c, [*fixed, *c, f"run={root / directory_name(c)}"]) for c in choices]
    for job in jobs:
        compose("train", job.arguments, config_dir=config_dir)  # all mistakes before the first job
    failed = []
    for number, job in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {job}", flush=True)
        code = run_job("train", job, config_dir=config_dir)
        if code in (STOPPED, INTERRUPTED):
            return code
        if code:
            failed.append(job)
    return concluded(root, jobs, failed)


def combinations(words: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The words with one value, and every choice of one value for each of the others.

    UserError where there are no others, and in a process of several, which would start as many.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a sweep (-m) is started once, not by torchrun; each job starts its own.")
    fixed, varied = [], []
    read = [word for word in words if word.partition("=")[0] not in LITERAL]
    fixed += [word for word in words if word not in read]  # a prompt's commas are its own
    overrides = OverridesParser.create().parse_overrides([quoted(word) for word in read])
    for word, override in zip(read, overrides, strict=True):
        if override.is_sweep_override():
            key = override.get_key_element()
            varied.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            fixed.append(word)
    if not varied:
        raise UserError("-m sweeps over settings with several values, as in seed=1,2.")
    return fixed, [list(choice) for choice in itertools.product(*varied)]


def run_job(command: str, job: Job, *, config_dir: str | None) -> int:
    """Run a job as a process of its own; its exit code."""
    extra = ["--config-dir", config_dir] if config_dir else []
    return run_child([sys.executable, "-m", "ldm.apps.main", command, *job.arguments, *extra])


def concluded(root: Path, jobs: Sequence[Job], failed: Sequence[Job]) -> int:
    """Say which jobs failed; the exit code of the sweep."""
    for job in failed:
        print(f"failed: {job}", file=sys.stderr)
    print(f"{root}: {len(jobs) - len(failed)} of {len(jobs)} jobs finished")
    return 1 if failed else 0


def directory_name(choice: list[str]) -> str:
    """A readable, unique directory name of the varied keys."""
    name = ",".join(re.sub(r"[^\w.=+-]", "_", word) for word in choice)
    if len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}-{fingerprint(choice)[:8]}"


def take(words: list[str], key: str) -> tuple[str | None, list[str]]:
    """The last value of a key, None without one, and the words of other keys."""
    found = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return (found[-1] if found else None), [w for w in words if not w.startswith(f"{key}=")]
