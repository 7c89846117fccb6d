"""The numbers of one job of a sweep: each a value with its protocol, as in a metrics file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ldm.apps.run_directory import CONFIG, INPUTS
from ldm.callbacks.rows import FILE, rows_after
from ldm.manifest import fingerprint, read_json

METRICS = "metrics.json"  # of an evaluation, in a job's folder
EVALUATION = "evaluation.json"  # the latest numbers of evaluations during training
ROWS = FILE  # of a training run
Records = dict[str, dict[str, Any]]
# What a held-out number is a number of, beside the data. A loss has more to it.
_MEASURES = ("stage", "size", "validate_block", "schedule", "prediction", "latent_scale")
_LOSSES = ("loss", "perceptual", "regularizer")


class Series:
    """The numbers in a run's metrics.jsonl, read on as they are written: by name, (step, value)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._points: dict[str, list[tuple[int, float]]] = {}
        self._read = 0
        self._file: int | None = None

    def by_name(self) -> dict[str, list[tuple[int, float]]]:
        """All whole lines so far; a file that was written anew is read from its beginning."""
        if not self.path.is_file():
            return self._points
        status = self.path.stat()
        if status.st_ino != self._file or status.st_size < self._read:
            self._points, self._read, self._file = {}, 0, status.st_ino
        rows, self._read = rows_after(self.path, self._read)
        for row in rows:
            for name, value in row.items():
                if name != "step" and "step" in row and isinstance(value, int | float):
                    self._points.setdefault(name, []).append((int(row["step"]), float(value)))
        return self._points

    def latest(self) -> dict[str, tuple[int, float]]:
        """By name, the last value and its step."""
        return {name: points[-1] for name, points in self.by_name().items()}


def evaluation_records(job: Path) -> Records:
    """The numbers of a finished `ldm evaluate`; none without its file."""
    return dict(read_json(job / METRICS)) if (job / METRICS).is_file() else {}


def training_records(run: Path) -> Records:
    """The latest numbers of a training run that goes on or has ended.

    Those of evaluations have their own protocol, under their own names. Others are of the last
    line that has them; their protocol is what of the run's settings and data decides their meaning.
    """
    latest = Series(run / ROWS).latest()
    judged = dict(read_json(run / EVALUATION)) if (run / EVALUATION).is_file() else {}
    if not latest or not (run / CONFIG).is_file():
        return judged
    settings: Any = OmegaConf.to_container(OmegaConf.load(run / CONFIG))
    inputs = read_json(run / INPUTS) if (run / INPUTS).is_file() else {}
    data = {name: entry["fingerprint"] for name, entry in inputs.items()}
    found: Records = {}
    for name, (step, value) in latest.items():
        if name.removeprefix("val/") not in judged:
            protocol = training_protocol(name, settings, data)
            found[name] = {"value": value, "step": step, "protocol": protocol}
    return found | judged


def training_protocol(
    name: str, settings: Mapping[str, Any], data: Mapping[str, str]
) -> dict[str, Any]:
    """What decides the meaning of a number that a run logs, with its hash.

    ``data`` are the fingerprints of the run's inputs; {} where they are not known yet.
    """
    keys = _MEASURES + (_LOSSES if name.endswith("loss") else ())
    keys += ("weighting",) if "weighted" in name else ()
    decisive = {key: settings[key] for key in keys if settings.get(key) is not None}
    protocol: dict[str, Any] = {"metric": name, "inputs": dict(data), "settings": decisive}
    if name.startswith("val/"):
        protocol["weights"] = "raw" if settings.get("ema_decay") is None else "ema"
    return protocol | {"hash": fingerprint(protocol)}
