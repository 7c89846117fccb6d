"""A sweep's own settings, beside those of the command that its jobs run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ldm.apps.schema.train import Duration
from ldm.ranges import Count, Natural, Positive


@dataclass(kw_only=True)
class Method:
    """``sweep``: a grid, or a search with all the rest."""

    method: Literal["grid", "tpe", "random"]
    trials: Count
    objective: str
    direction: Literal["minimize", "maximize", None]
    seed: Natural
    startup_trials: Count
    pruner: Literal["none", "median"]
    prune_after_trials: Natural
    prune_after_steps: Natural


@dataclass(kw_only=True)
class Launcher:
    """``launcher``: what starts the jobs; all but the first two are for a cluster."""

    kind: Literal["local", "slurm"]
    parallel: Count
    poll_seconds: Positive
    partition: str | None
    account: str | None
    time: Duration
    signal_seconds: Count
    gpus: Natural | None
    cpus: Count
    memory: str | int | None
    extra: Sequence[str]


@dataclass(kw_only=True)
class Sweep:
    """`ldm train -m`, `ldm evaluate -m`."""

    sweep_dir: str | None
    sweep: Method
    launcher: Launcher
