"""The noise schedule against prediction, weighting, and the grids of samplers."""

from collections.abc import Iterator
from typing import Any

from ldm.apps.build import build
from ldm.apps.rules.case import Case
from ldm.diffusion.prediction import Prediction
from ldm.diffusion.schedule import NoiseSchedule
from ldm.losses.weighting import Weighting

# Shares of the largest weight. Min-SNR's weights of v and of the clean sample fall with the signal
# (Hang et al. 2023): to 6e-3 and 9e-4 on Stable Diffusion's schedule, without harm to samples of
# small networks; to 5e-5 and 8e-6 on DDPM's, where their first estimate is off by half the data's
# spread and the samples' mean by some percent.
_HARDLY = 5e-4


def prediction(case: Case) -> None:
    """A prediction that says something at every level of the schedule."""
    steps = case.schedule.steps
    case.prediction.check(case.schedule.alpha(steps), case.schedule.sigma(steps))


def grids(case: Case) -> Iterator[str]:
    """Steps and spacing of the pictures that are drawn during training."""
    config = case.config
    names = ["preview", *(["evaluation"] if config.get("evaluate_every") is not None else [])]
    for name in names:
        steps, spacing = config[name].steps, config[name].spacing
        try:
            case.schedule.levels(steps, spacing)
        except ValueError as error:
            yield f"{name}.steps={steps} {name}.spacing={spacing}: {error}"


def weighting(case: Case) -> Iterator[str]:
    """A weighting that counts the last step, where sampling begins."""
    if _share_of_the_last_step(case) == 0.0:
        yield (
            "this weighting gives the last step of the schedule no weight, and sampling begins "
            "there; set weighting=uniform."
        )


def hardly_weighted(case: Case) -> Iterator[str]:
    """A remark: one that hardly does."""
    share = _share_of_the_last_step(case)
    if 0.0 < share < _HARDLY:
        yield (
            f"weighting: the last step of the schedule counts {share:.0e} of what the most "
            "important one does, and sampling begins there with an estimate that is hardly "
            "trained; weighting=uniform trains it."
        )


def _share_of_the_last_step(case: Case) -> float:
    schedule: NoiseSchedule = case.schedule
    prediction: Prediction = case.prediction
    weighs: Weighting | Any = build(case.config.weighting)
    weights = weighs(prediction, schedule.alpha(schedule.steps), schedule.sigma(schedule.steps))
    return float(weights[-1] / weights.max())
