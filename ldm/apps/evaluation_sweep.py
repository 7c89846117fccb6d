"""`ldm evaluate -m guidance=1,2,4`: a grid of evaluations, and one table and page of them all."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.evaluate import asked
from ldm.apps.exit_codes import INTERRUPTED, STOPPED
from ldm.apps.lineage import shards_of
from ldm.apps.locate import MAKES, model_at_step, model_folder, parts_at
from ldm.apps.report.page import refresh_report
from ldm.apps.report.sweep import write_sweep
from ldm.apps.report.sweep_rows import METRICS, SWEEP
from ldm.apps.sweep import Job, combinations, concluded, directory_name, run_job, take
from ldm.manifest import fingerprint, known_manifest, read_json, write_json
from ldm.metrics.protocol import versions

NOTES = "notes"  # of all jobs: what they have in common, as the reference, is noted once


def sweep_evaluation(words: Sequence[str], *, config_dir: str | None) -> int:
    """Evaluate every combination one after the other; 0 if all succeeded, else 1.

    ``out=DIR`` (default sweeps/evaluate) gets a folder for each job, named by the varied keys, and
    at the end table.csv, table.md and index.html. The same command again skips jobs that nothing
    has changed for, and takes up the interrupted one where its notes end.
    """
    out, words = take(list(words), "out")
    root = Path(out or "sweeps/evaluate")
    fixed, choices = combinations(words)
    jobs = [_job(fixed, choice, root) for choice in choices]
    configs = [compose("evaluate", job.arguments, config_dir=config_dir) for job in jobs]
    keys = [_key(config) for config in configs]
    finished = read_json(root / SWEEP)["finished"] if (root / SWEEP).is_file() else {}
    for job, key, config in zip(jobs, keys, configs, strict=True):
        if finished.get(directory_name(job.choice)) != key:
            _require_sound(job, config)
    failed = []
    for number, (job, key) in enumerate(zip(jobs, keys, strict=True), 1):
        name = directory_name(job.choice)
        if finished.get(name) == key and (root / name / METRICS).is_file():
            print(f"[{number}/{len(jobs)}] {job}: finished already", flush=True)
            continue
        print(f"[{number}/{len(jobs)}] {job}", flush=True)
        finished.pop(name, None)  # of other settings, or of a file that is gone
        code = run_job("evaluate", job, config_dir=config_dir)
        if code in (STOPPED, INTERRUPTED):
            return code
        if code:
            failed.append(job)
        else:
            finished[name] = key
        _write_state(root, jobs, finished)
    _write_state(root, jobs, finished)
    print(f"numbers: {root / 'table.md'}   page: {write_sweep(root)}")
    refresh_report(root.parent)  # of the model: it shows the sweep beside it
    return concluded(root, jobs, failed)


def _require_sound(job: Job, config: DictConfig) -> None:
    """UserError for what an evaluation lacks: all mistakes are found before the first job."""
    try:
        asked(config)
    except ValueError as error:
        raise UserError(f"{job}: {error}") from error


def _job(fixed: list[str], choice: list[str], root: Path) -> Job:
    """One evaluation: its numbers, and pictures if they are written, in a folder of its own."""
    name = directory_name(choice)
    words = [*fixed, *choice]
    written, others = take(words, "samples")
    if written is not None and any(word.startswith("model=") for word in words):
        words = [*others, f"samples={Path(written) / name}"]
    if take(words, NOTES)[0] is None:
        words = [*words, f"{NOTES}={root / NOTES}"]
    return Job(choice, [*words, f"out={root / name / METRICS}"])


def _write_state(root: Path, jobs: Sequence[Job], finished: dict[str, str]) -> None:
    """Write down the jobs with their settings, and which folders hold what of them."""
    rows = [
        {
            "directory": directory_name(job.choice),
            "settings": [word.split("=", 1) for word in job.choice],  # in the order of the words
        }
        for job in jobs
    ]
    write_json(root / SWEEP, {"jobs": rows, "finished": finished})


def _key(config: DictConfig) -> str:
    """What decides a job's numbers: its settings, the files that it reads, and the versions."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    read = {str(path): _state(path) for path in _read(config)}
    return fingerprint([settings, read, versions()])


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


def _state(path: Path) -> str:
    """A fingerprint of what is at a path: an artefact's own, else of names, sizes and times."""
    if path.is_dir() and (manifest := known_manifest(path)) is not None:
        return manifest.fingerprint
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    found = [(file, file.stat()) for file in files]
    return fingerprint([[str(f), status.st_size, status.st_mtime_ns] for f, status in found])
