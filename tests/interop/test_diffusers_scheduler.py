"""Our schedules and predictions are diffusers': scheduler folders that go both ways."""

import json
from pathlib import Path

import diffusers
import pytest
import torch

from ldm.diffusion.prediction import Clean, Epsilon, Flow, Velocity
from ldm.diffusion.schedule import NoiseSchedule
from ldm.diffusion.schedules.cosine import cosine
from ldm.diffusion.schedules.flow import flow
from ldm.diffusion.schedules.linear import linear
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.interop.diffusers import read_schedule, write_schedule


@pytest.mark.parametrize("prediction", [Epsilon(), Velocity(), Clean()])
@pytest.mark.parametrize(
    "schedule",
    [
        scaled_linear(num_steps=1000, start=0.00085, end=0.012),
        linear(num_steps=100, start=1e-4, end=0.02),
        cosine(num_steps=1000),
        scaled_linear(num_steps=1000, start=0.00085, end=0.012, zero_terminal_snr=True),
        cosine(num_steps=200, zero_terminal_snr=True),
    ],
    ids=lambda schedule: "-".join(map(str, schedule.description.values())),
)
def test_schedule_goes_both_ways(
    schedule: NoiseSchedule, prediction: Epsilon | Velocity | Clean, tmp_path: Path
) -> None:
    write_schedule(schedule, prediction, tmp_path)
    theirs = diffusers.DDIMScheduler.from_pretrained(tmp_path)
    t = torch.arange(schedule.num_steps)
    alpha_bar = schedule.alpha(t).square()
    torch.testing.assert_close(alpha_bar.float(), theirs.alphas_cumprod, rtol=1e-5, atol=1e-7)
    theirs.set_timesteps(10)
    assert theirs.timesteps.tolist() == schedule.levels(10).t[:-1].tolist()
    other = diffusers.EulerDiscreteScheduler.from_config(theirs.config)
    other.save_pretrained(tmp_path / "scheduler")
    for folder in (tmp_path, tmp_path / "scheduler"):
        read, read_prediction = read_schedule(folder)
        assert torch.equal(read.alpha(t), schedule.alpha(t))
        assert read.description == schedule.description
        assert type(read_prediction) is type(prediction)


def test_another_process_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scheduler_config.json"
    with pytest.raises(ValueError, match="scheduler_config.json is missing.*ldm train"):
        read_schedule(tmp_path)
    for option, value in (
        ("beta_schedule", "laplace"),
        ("prediction_type", "score"),
        ("trained_betas", [0.1]),
        ("variance_type", "learned_range"),
    ):
        schedule = linear(num_steps=10, start=1e-4, end=0.02)
        write_schedule(schedule, Epsilon(), tmp_path)
        change(file, **{option: value})
        with pytest.raises(ValueError, match=option):
            read_schedule(tmp_path)
    diffusers.FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler"):
        read_schedule(tmp_path)


def test_flow_matching_goes_both_ways(tmp_path: Path) -> None:
    for prediction in (Flow(), Clean()):
        write_schedule(flow(num_steps=500), prediction, tmp_path)
        assert json.loads((tmp_path / "scheduler_config.json").read_text())[
            "_class_name"
        ].startswith("FlowMatch")
        read, read_prediction = read_schedule(tmp_path)
        assert read.description == {"name": "flow", "num_steps": 500}
        assert type(read_prediction) is type(prediction)
    theirs = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path)
    # Theirs has the steps at our levels, and counts them from 1.
    sigma = read.sigma(theirs.timesteps - 1)
    torch.testing.assert_close(sigma.float(), theirs.sigmas[: len(sigma)])


def change(file: Path, **options: object) -> None:
    """Edit a config file as a stranger would."""
    file.write_text(json.dumps(json.loads(file.read_text()) | options))
