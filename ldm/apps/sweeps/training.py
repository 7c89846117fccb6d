"""Sweeps over `ldm train`: every job is a run directory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.differences import differences
from ldm.apps.errors import UserError
from ldm.apps.paths import from_root
from ldm.apps.report.job_numbers import (
    ROWS,
    Records,
    Series,
    training_protocol,
    training_records,
)
from ldm.apps.report.numbers import number
from ldm.apps.run_directory import CONFIG, INPUTS
from ldm.apps.sweeps.job import Job
from ldm.apps.sweeps.kind import Standing
from ldm.apps.verify import require_sound
from ldm.manifest import known_manifest, read_json


class Training:
    """Jobs that train. ``shown`` is the number that is looked at."""

    def __init__(self, shown: str = "val/loss") -> None:
        self.shown = shown
        self._series: dict[Path, Series] = {}
        self._noted: set[str] = set()

    def words(self, fixed: Sequence[str], choice: Sequence[str], directory: Path) -> list[str]:
        if any(word.startswith("run=") for word in (*fixed, *choice)):
            raise UserError("a sweep gives each job its run=; say where all lie: sweep_dir=DIR.")
        return [*fixed, *choice, f"run={directory}"]

    def require_sound(self, job: Job, *, here: bool) -> None:
        if self.is_finished(job):
            return
        try:
            require_sound("train", job.config, words=job.arguments, here=here, noted=self._noted)
        except ValueError as error:
            raise UserError(f"{job}: {error}") from error

    def is_finished(self, job: Job) -> bool:
        """Whether the run has its last step, with the same settings, of inputs as they are now.

        All else is for the job to decide, which goes on, or says why it does not.
        """
        manifest = known_manifest(job.directory)
        if manifest is None or job.config.resume == "never":
            return False
        if not (job.directory / CONFIG).is_file() or not (job.directory / INPUTS).is_file():
            return False
        before, now = OmegaConf.load(job.directory / CONFIG), from_root(job.config)
        if differences(_plain(before), _plain(now)):
            return False
        inputs = read_json(job.directory / INPUTS).values()
        known = [(entry, known_manifest(entry["path"])) for entry in inputs if "path" in entry]
        as_they_are = all(
            m is not None and m.fingerprint == entry["fingerprint"]
            for entry, m in known
            if os.path.isdir(entry["path"])
        )
        return as_they_are and int(manifest.facts["step"]) >= job.config.max_steps

    def began(self, job: Job) -> None:
        """Nothing: the run notes it."""

    def finished(self, job: Job) -> None:
        """Nothing: the run's manifest says so."""

    def standing(self, job: Job) -> Standing:
        latest = self._read(job).latest()
        done = max((step for step, _ in latest.values()), default=0)
        names = (self.shown, f"val/{self.shown}", "val/loss", "train/loss")
        shown = next((name for name in names if name in latest), None)
        note = "" if shown is None else f"{shown} {number(latest[shown][1])}"
        return Standing(done, int(job.config.max_steps), note)

    def so_far(self, job: Job, name: str) -> list[tuple[int, float]]:
        series = self._read(job).by_name()
        return series.get(name) or series.get(f"val/{name}", [])  # as evaluations are logged

    def require_objective(self, name: str, config: DictConfig) -> None:
        """UserError where a run with these settings never comes to this number."""
        if name.startswith("val/"):
            key = "validate_every"
        elif "/" not in name:
            key = "evaluate_every"
            if config.get(key) is None or not config.metrics:
                raise UserError(
                    f"sweep.objective={name}: it is a number of evaluations during training, which "
                    "these runs are without. Set evaluate_every= and metrics=[...], or choose "
                    "val/loss."
                )
        else:
            key = "log_every"
        if config[key] > config.max_steps:
            raise UserError(
                f"sweep.objective={name}: with {key}={config[key]} it is not measured within "
                f"max_steps={config.max_steps}. Set {key}={config.max_steps}, or less."
            )

    def records(self, directory: Path) -> Records:
        return training_records(directory)

    def protocol(self, name: str, config: DictConfig) -> dict[str, object]:
        if not name.startswith(("val/", "train/")):
            return {}
        return training_protocol(name, _plain(config), {})

    def _read(self, job: Job) -> Series:
        return self._series.setdefault(job.directory, Series(job.directory / ROWS))


def _plain(config: Any) -> dict[str, Any]:
    found: Any = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in found.items()}
