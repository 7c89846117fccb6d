"""`ldm train -m` and `ldm evaluate -m`: many jobs of one command, and a table of them all."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.report.page import refresh_report
from ldm.apps.report.sweep import write_sweep
from ldm.apps.run_directory import OUTPUT
from ldm.apps.sweeps.display import Display
from ldm.apps.sweeps.evaluating import Evaluating
from ldm.apps.sweeps.grid import Grid
from ldm.apps.sweeps.job import Job, directory_name
from ldm.apps.sweeps.kind import Kind
from ldm.apps.sweeps.launchers.launcher import Launcher
from ldm.apps.sweeps.launchers.local import LocalLauncher
from ldm.apps.sweeps.launchers.slurm import SlurmLauncher
from ldm.apps.sweeps.ledger import Ledger
from ldm.apps.sweeps.objective import objective_of
from ldm.apps.sweeps.same import require_same_search
from ldm.apps.sweeps.schedule import Plan, Schedule
from ldm.apps.sweeps.search import Search, require_comparable
from ldm.apps.sweeps.settings import read_settings, taken
from ldm.apps.sweeps.space import combinations, corners, read_space
from ldm.apps.sweeps.study import Study
from ldm.apps.sweeps.training import Training


def sweep(command: str, words: Sequence[str], *, config_dir: str | None) -> int:
    """Run all jobs of a sweep and write its table; 0 if all succeeded, 1 if any failed.

    All mistakes are found before the first job. The same command again passes over what is
    finished and goes on with what was interrupted. Stopped by a signal, it has that signal's code.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a sweep (-m) is started once, not by torchrun; each job starts its own.")
    settings = read_settings(command, words, config_dir=config_dir)
    config, (root, words) = settings.config, _root(command, settings)
    fixed, space = read_space(words)
    objective = None if config.sweep.method == "grid" else objective_of(config.sweep)
    head = {"command": command, "method": config.sweep.method, "launcher": config.launcher.kind}
    if objective is not None:
        head |= {"objective": objective.name, "direction": objective.direction}
    ledger = Ledger(root, head, [dimension.key for dimension in space], fixed)
    space = ledger.ordered(space)
    kind: Kind = Evaluating(root, ledger)
    if command == "train":
        kind = Training("val/loss" if objective is None else objective.name)

    def job_of(number: int, choice: tuple[str, ...]) -> Job:
        directory = root / directory_name(choice)
        arguments = kind.words(fixed, choice, directory)
        found = compose(command, arguments, config_dir=config_dir)
        return Job(number, choice, directory, tuple(arguments), found)

    choices = combinations(space) if objective is None else [*corners(space)]
    jobs = [job_of(number, choice) for number, choice in enumerate(choices, 1)]
    launcher = make_launcher(command, config.launcher, config_dir)
    for job in jobs:
        kind.require_sound(job, here=not launcher.stays)
    if objective is not None:
        kind.require_objective(objective.name, jobs[0].config)
        require_comparable(objective, kind, jobs)
    with ledger.held():
        if objective is None:
            ledger.enter(jobs)
            return _run(Grid(jobs), len(jobs), kind, launcher, ledger)
        study = Study(root, space, config.sweep, objective.direction)
        require_same_search(study, root, jobs[0].config, objective.name, space)
        total = max(int(config.sweep.trials), len(study))
        plan = Search(
            study, trials=total, objective=objective, kind=kind, ledger=ledger, job_of=job_of
        )
        return _run(plan, total, kind, launcher, ledger)


def make_launcher(command: str, config: DictConfig, config_dir: str | None) -> Launcher:
    """What starts the jobs, as launcher= names it."""
    extra = ["--config-dir", config_dir] if config_dir else []
    if config.kind == "slurm":
        return SlurmLauncher(command, config, extra)
    return LocalLauncher(command, parallel=config.parallel, extra=extra)


def _root(command: str, settings: Any) -> tuple[Path, list[str]]:
    """The sweep's directory, and the words without what names it."""
    named, words = settings.config.sweep_dir, settings.words
    if command == "evaluate":
        out, words = taken(words, "out")
        return Path(named or out or "sweeps/evaluate").expanduser(), words
    experiment, _ = taken(words, "experiment")
    return Path(named or f"sweeps/{experiment or 'train'}").expanduser(), words


def _run(plan: Plan, total: int, kind: Kind, launcher: Launcher, ledger: Ledger) -> int:
    """Run a plan, write the table, say what came of it; the exit code."""
    display = Display(total)
    schedule = Schedule(plan, kind=kind, launcher=launcher, ledger=ledger, display=display)
    try:
        code = schedule.run()
    finally:
        display.close()
    page = write_sweep(ledger.root)
    refresh_report(ledger.root.parent)  # of a model: it shows the sweep beside it
    print(f"table: {ledger.root / 'table.md'}   page: {page}")
    for failed in ledger.failed():
        choice, log = " ".join(map("=".join, failed["settings"])), failed["directory"]
        print(f"failed: {choice}: {failed['why']}", file=sys.stderr)
        print(f"  output: {ledger.root / log / OUTPUT}", file=sys.stderr)
    print(f"{ledger.root}: {ledger.in_words()}", flush=True)
    return code
