"""Sweeps over `ldm evaluate`: every job is a metrics file in a folder of its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.errors import UserError
from ldm.apps.lineage import shards_of
from ldm.apps.locate import MAKES, model_at_step, model_folder, parts_at
from ldm.apps.report.job_numbers import METRICS, Records, evaluation_records
from ldm.apps.sweeps.job import Job
from ldm.apps.sweeps.kind import Standing
from ldm.apps.sweeps.ledger import Ledger
from ldm.apps.sweeps.settings import taken
from ldm.manifest import fingerprint, known_manifest
from ldm.metrics.protocol import versions

NOTES = "notes"  # of all jobs: what they have in common, as the reference, is noted once


class Evaluating:
    """Jobs that evaluate. Of a finished one ``ledger`` keeps what its numbers followed from."""

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.root, self.ledger = root, ledger
        self._keys: dict[Path, str] = {}

    def words(self, fixed: Sequence[str], choice: Sequence[str], directory: Path) -> list[str]:
        words = [*fixed, *choice]
        written, others = taken(words, "samples")
        if written is not None and any(word.startswith("model=") for word in words):
            words = [*others, f"samples={Path(written) / directory.name}"]
        if taken(words, NOTES)[0] is None:
            words = [*words, f"{NOTES}={self.root / NOTES}"]
        return [*words, f"out={directory / METRICS}"]

    def require_sound(self, job: Job, *, here: bool) -> None:
        from ldm.apps.evaluate import asked

        if self.is_finished(job):
            return
        config = job.config
        if not here:  # of GPUs this machine may have none
            config = OmegaConf.create({**config, "accelerator": "cpu"})
        try:
            asked(config)
        except ValueError as error:
            raise UserError(f"{job}: {error}") from error

    def is_finished(self, job: Job) -> bool:
        """Whether its numbers are there, and followed from what it would read now.

        So they do where the job was begun with that and came to a new file, perhaps without us.
        """
        if (file := _metrics_file(job)) is None:
            return False
        key, (begun, file_then) = self._key(job), self.ledger.begun.get(job.name, ["", ""])
        return self.ledger.finished.get(job.name) == key or (begun == key and file != file_then)

    def began(self, job: Job) -> None:
        # The key, before anything that it reads may change.
        self.ledger.begun[job.name] = [self._key(job), _metrics_file(job) or ""]
        self.ledger.finished.pop(job.name, None)  # of other settings, or of a file that is gone

    def finished(self, job: Job) -> None:
        # What it read may have changed since: its numbers are those of what it began with.
        begun, _ = self.ledger.begun.pop(job.name, (self._key(job), ""))
        self.ledger.finished[job.name] = begun

    def standing(self, job: Job) -> Standing:
        return Standing()

    def require_objective(self, name: str, config: DictConfig) -> None:
        if "/" in name:
            raise UserError(
                f"sweep.objective={name}: it is a number of trainings. Name one that the metrics "
                "file will have, as sweep.objective=fd_own-256."
            )

    def so_far(self, job: Job, name: str) -> list[tuple[int, float]]:
        return []

    def records(self, directory: Path) -> Records:
        return evaluation_records(directory)

    def protocol(self, name: str, config: DictConfig) -> dict[str, object]:
        return {}

    def _key(self, job: Job) -> str:
        """What decides a job's numbers: its settings, the files it reads, and the versions."""
        if job.directory not in self._keys:
            settings: Any = OmegaConf.to_container(job.config, resolve=True)
            read = {str(path): _state(path) for path in _read(job.config)}
            self._keys[job.directory] = fingerprint([settings, read, versions()])
        return self._keys[job.directory]


def _read(config: DictConfig) -> Iterator[Path]:
    """The files and folders that an evaluation reads, as far as they are on this machine.

    UserError where there is no model.
    """
    root = config.data.root
    named = [config.weights_dir, config.reference, config.prompts, config.text_run]
    if (model := config.model) is None:
        named.append(config.samples)
    else:
        if config.checkpoint is not None:
            model = model_at_step(model, config.checkpoint)
        names = parts_at(model, MAKES) or ["unet"]  # which is then said to be missing
        parts = [model_folder(model, name) / name for name in names]
        named += parts
        if root is None and config.reference is None:
            root = shards_of(parts[0].parent)
    if root is not None:
        named += [root, f"{root}/held_out"]
    yield from (path for path in map(Path, filter(None, named)) if path.exists())


def _metrics_file(job: Job) -> str | None:
    """The state of a job's numbers, None where there are none."""
    file = job.directory / METRICS
    return _state(file) if file.is_file() else None


def _state(path: Path) -> str:
    """A fingerprint of what is at a path: an artefact's own, else of names, sizes and times."""
    if path.is_dir() and (manifest := known_manifest(path)) is not None:
        return manifest.fingerprint
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    found = [(file, file.stat()) for file in files]
    return fingerprint([[str(f), status.st_size, status.st_mtime_ns] for f, status in found])
