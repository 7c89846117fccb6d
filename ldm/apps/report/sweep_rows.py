"""The numbers of a sweep of evaluations, and which of them may be compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ldm.apps.report.numbers import best, is_headline
from ldm.apps.report.tables import rank, why_not_valid
from ldm.manifest import read_json
from ldm.metrics.protocol import differences

SWEEP = "sweep.json"  # the jobs with their settings, and which of them are finished
METRICS = "metrics.json"  # in a job's folder
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
    """A job: what it was given of the varied settings, and its records; none where it failed."""

    settings: dict[str, str]
    records: Mapping[str, Mapping[str, Any]]

    def value(self, name: str) -> float | None:
        """A number that counts; None where there is none, or it is not valid."""
        record = self.records.get(name)
        return None if record is None or why_not_valid(record) else float(record["value"])

    def number_of(self, key: str) -> float | None:
        """A varied setting as a number, None where it is none."""
        try:
            return float(self.settings[key])
        except ValueError:
            return None


class Sweep(NamedTuple):
    """All jobs of a sweep in order."""

    rows: list[Row]

    @property
    def varied(self) -> list[str]:
        """The settings that differ between the jobs."""
        return list(self.rows[0].settings)

    @property
    def names(self) -> list[str]:
        """All numbers that any job has, the most important ones first."""
        return sorted({name for row in self.rows for name in row.records}, key=rank)

    @property
    def headlines(self) -> list[str]:
        """Those that stand for themselves."""
        return [name for name in self.names if is_headline(name)]

    def numeric(self) -> list[str]:
        """The varied settings that are numbers, which a chart can be drawn across."""
        return [k for k in self.varied if all(row.number_of(k) is not None for row in self.rows)]

    def differences(self, name: str, rows: Sequence[Row] | None = None) -> list[str]:
        """What the protocols of a number differ in, of all or some jobs, beside what was varied."""
        records = [row.records[name] for row in rows or self.rows if name in row.records]
        found = {key for record in records[1:] for key in differences(records[0], record)}
        return sorted(key for key in found if not self._explained(key))

    def best(self, name: str) -> float | None:
        """The best value of several that differ; None where they are not to be compared."""
        values = [v for row in self.rows if (v := row.value(name)) is not None]
        return best(name, values) if len({*values}) > 1 and not self.differences(name) else None

    def _explained(self, key: str) -> bool:
        """Whether a key of a protocol, as sampler_settings.eta, differs with what was varied."""
        follows = [name for varied in self.varied for name in _FOLLOWS.get(varied, ())]
        return key.partition(".")[0] in (*_OF_EACH, *self.varied, *follows)


def read_sweep(directory: Path) -> Sweep | None:
    """The sweep whose folder this is, None where it is none; ValueError where it is damaged."""
    state = read_json(directory / SWEEP) if (directory / SWEEP).is_file() else {}
    if not state.get("jobs"):
        return None
    return Sweep([_row(directory, job, state["finished"]) for job in state["jobs"]])


def _row(directory: Path, job: Mapping[str, Any], finished: Mapping[str, str]) -> Row:
    file = directory / job["directory"] / METRICS
    is_there = job["directory"] in finished and file.is_file()
    return Row(dict(job["settings"]), read_json(file) if is_there else {})


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
