"""`ldm train -m key=a,b`: a grid of runs, each a process with a readable directory of its own."""

import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from ldm.apps.child import run_child
from ldm.apps.compose import compose, quoted
from ldm.apps.errors import UserError
from ldm.apps.exit_codes import INTERRUPTED, STOPPED
from ldm.manifest import fingerprint

LONGEST = 120  # characters of a job's directory name


def sweep(words: Sequence[str], *, config_dir: str | None) -> int:
    """Run every combination one after the other; 0 if all succeeded, else 1.

    ``sweep_dir=DIR`` (default sweeps/<experiment>) holds a directory per job, named by the varied
    keys. The same command again skips finished jobs and takes up the interrupted one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a sweep (-m) is started once, not by torchrun; each job starts its own.")
    sweep_dir, words = _take(list(words), "sweep_dir")
    fixed, varied = _split(words)
    if not varied:
        raise UserError("-m sweeps over settings with several values, as in lr=1e-3,2e-3.")
    named = [word.partition("=")[2] for word in fixed if word.startswith("experiment=")]
    root = Path(sweep_dir or f"sweeps/{named[0] if named else 'train'}")
    jobs = [list(choice) for choice in itertools.product(*varied)]
    commands = []
    for choice in jobs:
        arguments = [*fixed, *choice, f"run={root / _directory(choice)}"]
        compose("train", arguments, config_dir=config_dir)  # all mistakes before the first job
        commands.append(arguments)
    failed = []
    for number, arguments in enumerate(commands, 1):
        print(f"[{number}/{len(commands)}] {' '.join(jobs[number - 1])}", flush=True)
        extra = ["--config-dir", config_dir] if config_dir else []
        words_of_job = [sys.executable, "-m", "ldm.apps.main", "train", *arguments, *extra]
        code = run_child(words_of_job)
        if code in (STOPPED, INTERRUPTED):
            return code
        if code:
            failed.append(" ".join(jobs[number - 1]))
    for job in failed:
        print(f"failed: {job}", file=sys.stderr)
    print(f"{root}: {len(commands) - len(failed)} of {len(commands)} jobs finished")
    return 1 if failed else 0


def _split(words: list[str]) -> tuple[list[str], list[list[str]]]:
    """Settings with one value, and for each of the others its list of key=value words."""
    fixed, varied = [], []
    overrides = OverridesParser.create().parse_overrides([quoted(word) for word in words])
    for word, override in zip(words, overrides, strict=True):
        if override.is_sweep_override():
            key = override.get_key_element()
            varied.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            fixed.append(word)
    return fixed, varied


def _directory(choice: list[str]) -> str:
    """A readable, unique directory name of the varied keys."""
    name = ",".join(re.sub(r"[^\w.=+-]", "_", word) for word in choice)
    if len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}-{fingerprint(choice)[:8]}"


def _take(words: list[str], key: str) -> tuple[str | None, list[str]]:
    found = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return (found[-1] if found else None), [w for w in words if not w.startswith(f"{key}=")]
