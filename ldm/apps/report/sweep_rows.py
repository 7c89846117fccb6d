"""The jobs of a sweep with their numbers, and which of these may be compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ldm.apps import exit_codes
from ldm.apps.closing import said
from ldm.apps.report.job_numbers import evaluation_records, training_records
from ldm.apps.report.numbers import best, is_headline
from ldm.apps.report.tables import rank, why_not_valid
from ldm.apps.run_directory import LOCK, QUEUED, exit_code
from ldm.apps.sweeps import states
from ldm.data.lock import is_held
from ldm.manifest import known_manifest, read_json
from ldm.metrics.protocol import JUDGED, differences

SWEEP = "sweep.json"  # the jobs with their settings, and how they stand
_HEAD = ("command", "method", "objective", "direction")  # what it says of all of them
_MODEL = (
    "model", "autoencoder", "schedule", "text_encoder", "text_encoder_2", "class_encoder",
    "weights", "size_px", "checkpoint",
)  # fmt: skip
# By varied setting, what else of a protocol differs with it.
_FOLLOWS = {
    "model": _MODEL,
    "checkpoint": _MODEL,
    "sampler": ("sampler", "sampler_settings"),
    # As many real pictures and prompts are taken as there are samples.
    "num_samples": ("n", "n_real", "reference", "prompts"),
    "reference": ("n_real", "prompts", "reference_is", "captions_from"),
    "block": ("judging",),
    "accelerator": ("device", "judging"),
    "samples": (
        *_MODEL, "sampler", "sampler_settings", "steps", "spacing", "guidance", "guidance_rescale",
        "guidance_interval", "negative", "sizes", "negative_sizes", "seed", "block", "device",
        "compressed", "captions_from",
    ),
}  # fmt: skip
_OF_EACH = ("hash", "samples")  # the pixels of the samples


class Row(NamedTuple):
    """A job: what it was given of the varied settings, its records, and how it stands.

    A training run has records from its first line on; ``step`` is that of the latest.
    """

    settings: dict[str, str]
    records: Mapping[str, Mapping[str, Any]]
    state: str = states.FINISHED
    step: int | None = None
    seconds: float | None = None
    why: str = ""  # it failed

    def value(self, name: str) -> float | None:
        """A number that counts; None where there is none, or it is not valid, or not the last."""
        return self.latest(name) if self.state == states.FINISHED else None

    def latest(self, name: str) -> float | None:
        """A number as it is now; None where there is none, or it is not valid."""
        record = self.records.get(name)
        if record is None or why_not_valid(record) or not math.isfinite(record["value"]):
            return None
        return float(record["value"])

    def number_of(self, key: str) -> float | None:
        """A varied setting as a number, None where it is none."""
        try:
            return float(self.settings[key])
        except ValueError:
            return None


@dataclass(frozen=True, eq=False)
class Sweep:
    """All jobs of a sweep in order; ``objective`` and ``direction`` are those of a search."""

    rows: list[Row]
    command: str = "evaluate"
    method: str = "grid"
    objective: str = ""
    direction: str = ""

    @property
    def varied(self) -> list[str]:
        """The settings that differ between the jobs."""
        return list(self.rows[0].settings)

    @cached_property
    def names(self) -> list[str]:
        """All numbers that any job has, the most important ones first."""
        return sorted({name for row in self.rows for name in row.records}, key=rank)

    @cached_property
    def headlines(self) -> list[str]:
        """Those that stand for themselves, a search's objective first."""
        found = [name for name in self.names if name != self.objective and self._is_headline(name)]
        return [self.objective, *found] if self.objective in self.names else found

    def numeric(self) -> list[str]:
        """The varied settings that are numbers, which a chart can be drawn across."""
        return [k for k in self.varied if all(row.number_of(k) is not None for row in self.rows)]

    def differences(self, name: str, rows: Sequence[Row] | None = None) -> list[str]:
        """What the protocols of a number differ in, of all or some jobs, beside what was varied."""
        records = [row.records[name] for row in rows or self.rows if name in row.records]
        found = {key for record in records[1:] for key in differences(records[0], record)}
        return sorted(key for key in found if not self._explained(key))

    @cached_property
    def bests(self) -> dict[str, float | None]:
        """By headline, the best of values that differ; None where they are not to be compared."""
        return {name: self._best(name) for name in self.headlines}

    def _best(self, name: str) -> float | None:
        values = [v for row in self.rows if (v := row.value(name)) is not None]
        if len({*values}) < 2 or self.differences(name):
            return None
        if name == self.objective:
            return min(values) if self.direction == "minimize" else max(values)
        return best(name, values)

    def _is_headline(self, name: str) -> bool:
        """Of what a training run logs only the numbers that are said at its end."""
        records = [row.records[name] for row in self.rows if name in row.records]
        logged = any("metric" in record["protocol"] for record in records)
        return (name.startswith("val/") and said(name)) if logged else is_headline(name)

    def _explained(self, key: str) -> bool:
        """Whether a key of a protocol, as sampler_settings.eta, differs with what was varied.

        What training runs differ in makes other models, and never another way to measure them.
        """
        if self.command == "train":
            return key.partition(".")[0] in (*_OF_EACH, *JUDGED)
        follows = [name for varied in self.varied for name in _FOLLOWS.get(varied, ())]
        return key.partition(".")[0] in (*_OF_EACH, *self.varied, *follows)


def read_sweep(directory: Path) -> Sweep | None:
    """The sweep whose folder this is, None where it is none; ValueError where it is damaged."""
    state = read_json(directory / SWEEP) if (directory / SWEEP).is_file() else {}
    if not state.get("jobs"):
        return None
    head = {key: state[key] for key in _HEAD if key in state}
    jobs = state["jobs"]
    if not is_held(directory / LOCK):  # no sweep follows them
        jobs = [
            _left(directory, job, state) if job.get("state") == states.RUNNING else job
            for job in jobs
        ]
    rows = [_row(directory, job, state) for job in jobs]
    return Sweep(rows, **{key: str(value) for key, value in head.items()})


def _left(directory: Path, job: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """A job that ran when its sweep ended, as its own files say that it stands now.

    Jobs of a cluster go on, and their script says how they ended.
    """
    folder, in_queue = directory / job["directory"], state.get("launcher") == "slurm"
    if in_queue and (code := exit_code(folder)) is not None:
        if code in (exit_codes.STOPPED, exit_codes.INTERRUPTED):
            return {**job, "state": states.STOPPED}
        failed = {"state": states.FAILED, "why": f"code {code}"}
        return {**job, **(failed if code else {"state": states.FINISHED})}
    if in_queue and not (folder / QUEUED).is_file():
        return {**job, "state": states.WAITING}
    if state.get("command") == "train" and known_manifest(folder) is not None:
        return {**job, "state": states.FINISHED}
    return {**job, "state": states.RUNNING if in_queue else states.STOPPED}


def _row(directory: Path, job: Mapping[str, Any], state: Mapping[str, Any]) -> Row:
    folder, is_training = directory / job["directory"], state.get("command") == "train"
    records = training_records(folder) if is_training else evaluation_records(folder)
    known = state["finished"] if job.get("state") != states.FINISHED else [job["directory"]]
    if not is_training and job["directory"] not in known:
        records = {}  # of other settings, perhaps
    steps = [int(record["step"]) for record in records.values() if "step" in record]
    return Row(
        dict(job["settings"]),
        records,
        state=str(job.get("state", states.FINISHED if records else states.FAILED)),
        step=max(steps, default=0) if is_training else None,
        seconds=job.get("seconds"),
        why=str(job.get("why", "")),
    )


def lines(sweep: Sweep, along: str, names: Sequence[str]) -> dict[str, list[Row]]:
    """By label, the jobs that a line joins in the order of a varied setting.

    They agree in all other settings, have all the ``names``, and their protocols agree but for
    what was varied. A label is empty where there is nothing to tell apart.
    """
    found: dict[tuple[str, ...], list[list[Row]]] = {}
    for row in sweep.rows:
        if any(row.value(name) is None for name in names):
            continue
        others = tuple(f"{key} {value}" for key, value in row.settings.items() if key != along)
        kinds = found.setdefault(others, [])
        for kind in kinds:
            if not any(sweep.differences(name, [kind[0], row]) for name in names):
                kind.append(row)
                break
        else:
            kinds.append([row])
    labelled: dict[str, list[Row]] = {}
    for others, kinds in found.items():
        for number, kind in enumerate(kinds, 1):
            more = (f"protocol {number}",) if len(kinds) > 1 else ()
            kind.sort(key=lambda row: row.number_of(along) or 0.0)
            labelled[", ".join((*others, *more))] = kind
    return labelled
