"""What a search optimises: a named number, with its direction and its protocol."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig

from ldm.apps.errors import UserError, suggestion
from ldm.apps.report.job_numbers import Records
from ldm.apps.report.numbers import less_is_better
from ldm.apps.report.tables import why_not_valid
from ldm.metrics.protocol import JUDGED, differences

MINIMIZE, MAXIMIZE = "minimize", "maximize"
_MAY_DIFFER = (*JUDGED, "versions")
# How the numbers of evaluations begin that no training logs by itself; those have a protocol.
_EVALUATED = (
    "fid", "rfid", "fd_", "rfd_", "kid", "inception_score", "clip_score", "prompt_accuracy",
    "digit_", "memorisation", "precision", "recall",
)  # fmt: skip


class Objective(NamedTuple):
    """The number ``name`` of a finished job, to be minimised or maximised."""

    name: str
    direction: str

    def record(self, records: Records) -> Mapping[str, Any]:
        """The number with its protocol; ValueError where there is none that counts."""
        if self.name not in records:
            known = [name for name in records if "_bin_" not in name]
            raise ValueError(f"the job has no {self.name}. {suggestion(self.name, known)}".strip())
        record = records[self.name]
        if why := why_not_valid(record):
            raise ValueError(f"{self.name} is not valid: {why}")
        if not math.isfinite(record["value"]):
            raise ValueError(f"{self.name} is {record['value']}")
        return record


def objective_of(config: DictConfig) -> Objective:
    """The objective of a search; UserError where its direction must be said.

    A metric may be named as metrics.jsonl does, val/kid_own-128, or as its record, kid_own-128.
    """
    name, direction = str(config.objective), config.direction
    if name.removeprefix("val/").lower().startswith(_EVALUATED):
        name = name.removeprefix("val/")
    if direction is None:
        less = less_is_better(config.objective)
        if less is None:
            raise UserError(
                f"sweep.objective={config.objective}: whether more or less of it is better is not "
                "known. Say sweep.direction=minimize, or maximize."
            )
        direction = MINIMIZE if less else MAXIMIZE
    return Objective(name, direction)


def not_comparable(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what the protocols of two numbers differ beside the models that are judged."""
    found = differences({"protocol": first}, {"protocol": other})
    return [key for key in found if key.partition(".")[0] not in _MAY_DIFFER]
