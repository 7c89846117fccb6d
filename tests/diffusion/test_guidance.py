"""Classifier-free guidance: its drop in training, its push in sampling."""

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from torch import Tensor, nn

from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.guidance import drop, guided
from ldm.diffusion.prediction import Epsilon, Flow, Prediction, Velocity
from ldm.diffusion.schedules.flow import flow
from ldm.diffusion.schedules.linear import linear
from ldm.types import Condition
from tests.parity import Agree

SCHEDULE = linear(num_steps=1000, start=1e-4, end=0.02)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Network(nn.Module):
    """Predicts something that depends on every part of the condition; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.batches.append(len(x))
        out = torch.sin(x + t.view(-1, 1, 1, 1) / 1000)
        if condition.tokens is not None:
            weight = 1.0 if condition.mask is None else condition.mask[..., None]
            out = out + (condition.tokens * weight).sum((1, 2)).view(-1, 1, 1, 1)
        if condition.vector is not None:
            out = out + condition.vector.mean(1).view(-1, 1, 1, 1)
        if condition.image is not None:
            out = out * condition.image.mean(1, keepdim=True)
        return out


def make_condition(batch: int, offset: float = 0.0) -> Condition:
    return Condition(
        tokens=torch.randn(batch, 5, 3) + offset,
        mask=torch.rand(batch, 5) > 0.3,
        vector=torch.randn(batch, 4) + offset,
    )


@pytest.fixture
def denoiser() -> Denoiser:
    return Denoiser(network=Network(), schedule=SCHEDULE, prediction=Epsilon())


X = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
T = torch.tensor([1.0, 300.5, 999.0])


def test_scale_one_is_the_conditional_model_at_its_cost(denoiser: Denoiser) -> None:
    condition, null = make_condition(3), make_condition(3)
    found = guided(denoiser, condition, null, 1.0)(X, T)
    assert denoiser.network.batches == [3]
    assert torch.equal(found, denoiser(X, T, condition))


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, 7.5])
def test_mixing_clean_samples_is_mixing_predicted_noise(denoiser: Denoiser, scale: float) -> None:
    condition, null = make_condition(3), make_condition(3)
    found = guided(denoiser, condition, null, scale)(X, T)
    assert denoiser.network.batches == [6]  # both halves in one call
    without, with_ = (denoiser.predict(X, T, part) for part in (null, condition))
    alpha, sigma = denoiser.coefficients(T, X)
    expected = Epsilon().x0(X, without + scale * (with_ - without), alpha, sigma)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_scale_zero_is_the_unconditional_model(denoiser: Denoiser) -> None:
    condition, null = make_condition(3), make_condition(3)
    found = guided(denoiser, condition, null, 0.0)(X, T)
    torch.testing.assert_close(found, denoiser(X, T, null))


def test_a_part_without_null_is_given_to_both_halves(denoiser: Denoiser) -> None:
    image = torch.rand(3, 1, 4, 4)
    condition, null = (make_condition(3)._replace(image=image) for _ in range(2))
    expected = guided(denoiser, condition, null, 3.0)(X, T)
    found = guided(denoiser, condition, null._replace(image=None), 3.0)(X, T)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("prediction", [Epsilon(), Velocity()], ids=lambda p: p.name)
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_rescale_is_diffusers_rescale(prediction: Prediction, share: float, agree: Agree) -> None:
    denoiser = Denoiser(network=Network(), schedule=SCHEDULE, prediction=prediction)
    condition, null = make_condition(3), make_condition(3)
    found = guided(denoiser, condition, null, 5.0, rescale=share)(X, T)
    assert denoiser.network.batches == [6]
    without, with_ = (denoiser.predict(X, T, part) for part in (null, condition))
    output = rescale_noise_cfg(without + 5.0 * (with_ - without), with_, share)
    agree(
        found,
        denoiser.x0(X, T, output),
        component="rescale_noise_cfg",
        configuration=f"{prediction.name}, {share}",
        tolerance=1e-4,
    )
    if share == 1.0:  # the contrast is the conditional output's again
        torch.testing.assert_close(output.std((1, 2, 3)), with_.std((1, 2, 3)))


def test_guidance_in_an_interval(denoiser: Denoiser) -> None:
    condition, null = make_condition(3), make_condition(3)
    pushed, plain = (guided(denoiser, condition, null, scale)(X, T) for scale in (5.0, 1.0))
    ratio = (SCHEDULE.sigma(T) / SCHEDULE.alpha(T)).tolist()  # rising

    def within(low: float, high: float) -> Tensor:
        denoiser.network.batches.clear()
        return guided(denoiser, condition, null, 5.0, interval=(low, high))(X, T)

    assert torch.equal(within(0.0, 1e4), pushed)
    assert denoiser.network.batches == [6]
    assert torch.equal(within(0.0, 1e-4), plain)
    assert denoiser.network.batches == [3]  # half the cost where there is no guidance
    # The ends belong to it as in the paper, (low, high], and each sample has its own level.
    only_middle = torch.tensor([False, True, False]).view(3, 1, 1, 1)
    expected = torch.where(only_middle, pushed, plain)
    assert torch.equal(within(ratio[0], ratio[1]), expected)
    assert torch.equal(within(0.0, ratio[2])[2], pushed[2])


def test_the_level_without_signal_is_outside_of_a_finite_interval() -> None:
    denoiser = Denoiser(network=Network(), schedule=flow(num_steps=1000), prediction=Flow())
    condition, null = make_condition(3), make_condition(3)
    found = guided(denoiser, condition, null, 5.0, interval=(0.0, 100.0))(X, T)
    assert torch.equal(found[2], denoiser(X, T, condition)[2])
    assert not torch.equal(found[1], denoiser(X, T, condition)[1])


def test_unused_options_change_no_bit(denoiser: Denoiser) -> None:
    condition, null = make_condition(3), make_condition(3)
    without, with_ = (denoiser(X, T, part) for part in (null, condition))
    expected = without + 3.0 * (with_ - without)
    torch.testing.assert_close(guided(denoiser, condition, null, 3.0)(X, T), expected)
    for off in ({"rescale": 0.0}, {"interval": None}, {"interval": (0.0, 1e4)}):
        found = guided(denoiser, condition, null, 3.0, **off)(X, T)  # type: ignore[arg-type]
        assert torch.equal(found, guided(denoiser, condition, null, 3.0)(X, T))


def dropped(condition: Condition, null: Condition, rate: float, **where: object) -> Tensor:
    """Which samples lost their condition; all of their parts, or none."""
    out = drop(condition, null, rate, **where)  # type: ignore[arg-type]
    lost = []
    for kept, empty, found in zip(condition[:3], null[:3], out[:3], strict=True):
        assert found.dtype == kept.dtype
        assert found.shape == kept.shape
        is_empty = (found == empty).flatten(1).all(1)
        is_kept = (found == kept).flatten(1).all(1)
        assert (is_empty | is_kept).all()
        lost.append(is_empty & ~is_kept)
    assert torch.equal(lost[0], lost[2])
    return lost[0]


def test_the_share_that_is_dropped() -> None:
    n = 20_000
    condition, null = make_condition(n), make_condition(1, offset=50.0)
    index = torch.arange(n)
    share = dropped(condition, null, 0.1, seed=0, step=0, index=index).double().mean().item()
    assert share == pytest.approx(0.1, abs=5 * (0.1 * 0.9 / n) ** 0.5)
    assert not dropped(condition, null, 0.0, seed=0, step=0, index=index).any()
    assert dropped(condition, null, 1.0, seed=0, step=0, index=index).all()


def test_who_is_dropped_depends_on_seed_step_and_sample_only() -> None:
    condition, null, index = make_condition(200), make_condition(1, 50.0), torch.arange(200)
    whole = dropped(condition, null, 0.4, seed=0, step=3, index=index)
    parts = [
        dropped(condition.map(lambda p, s=s: p[s]), null, 0.4, seed=0, step=3, index=index[s])
        for s in (slice(0, 60), slice(60, 61), slice(61, 200))
    ]
    assert torch.equal(torch.cat(parts), whole)
    for other in ({"seed": 1, "step": 3}, {"seed": 0, "step": 4}):
        assert not torch.equal(dropped(condition, null, 0.4, index=index, **other), whole)


def test_image_and_absent_parts_are_left_alone() -> None:
    condition = Condition(tokens=torch.ones(2, 3, 4), image=torch.ones(2, 1, 2, 2))
    null = Condition(tokens=torch.zeros(1, 3, 4))
    out = drop(condition, null, 1.0, seed=0, step=0, index=torch.arange(2))
    assert out.tokens is not None
    assert not out.tokens.any()
    assert out.image is condition.image
    assert out.mask is None
    assert out.vector is None
