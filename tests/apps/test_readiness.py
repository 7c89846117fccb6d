"""The verdict on an autoencoder: each reason against it from made-up numbers, one at a time."""

import pytest

from ldm.apps import readiness
from ldm.apps.readiness import reasons_against, verdict

CONFIG = {
    "discriminator": {"_target_": "..."},
    "loss": {"gan": 0.5, "gan_start": 100, "gan_ramp_steps": 50, "adaptive_limit": 1e4},
}
HEALTHY = {
    "val/psnr": 26.0, "val/kl_per_dimension": 3.0, "val/posterior_sigma": 0.1,
    "val/dead_channels": 0.0, "val/outlier_share": 1e-4,
}  # fmt: skip


def rows(*, before=None, gan=None, step=200, **last):
    """A finished run: two validations and three logged lines."""
    changed = {f"val/{name}": value for name, value in last.items()}
    terms = {"train/d_loss": 0.8, "train/d_weight": 50.0} | (gan or {})
    return [
        {"step": step // 2, **HEALTHY, "val/psnr": 25.9 if before is None else before},
        *({"step": step - 20 + 10 * i, **terms} for i in range(3)),
        {"step": step, **HEALTHY, **changed},
    ]


def test_a_healthy_autoencoder_is_ready():
    assert reasons_against(rows(), CONFIG) == []
    assert verdict([]) == "ready for stage 2"
    # One validation alone says nothing of improvement; a run without a discriminator needs none.
    assert reasons_against(rows()[-1:], {"discriminator": None, "loss": {}}) == []
    # Idle, as where reconstructions are too good to tell: no reason against.
    assert reasons_against(rows(gan={"train/d_loss": 1.0}), CONFIG) == []


@pytest.mark.parametrize(
    "numbers, clause",
    [
        ({"psnr": 14.96, "before": 15.0}, "15.0 dB, and below 20 dB"),
        ({"psnr": float("nan")}, "reconstructions are not finite"),
        ({"psnr": 26.0, "before": 25.0}, "still improving, by 1.0 dB"),
        ({"dead_channels": 2.0}, "2 of its latent channels"),
        ({"outlier_share": 0.02}, "2.0% of its latents lie beyond 5"),
        ({"posterior_sigma": 0.97}, "as wide as the prior (sigma 0.97)"),
        ({"kl_per_dimension": float("inf")}, "kl_per_dimension is not finite"),
        ({"codebook_usage": 0.02}, "only 2.0% of its codebook"),
        ({"step": 140}, "from step 150 on"),
        ({"gan": {"train/d_loss": 0.01}}, "tells every picture apart"),
    ],
)
def test_each_reason_against(numbers, clause):
    (reason,) = reasons_against(rows(**numbers), CONFIG)
    assert clause in reason
    assert verdict([reason]) == f"not ready for stage 2 because {reason}"


def test_without_a_validation_nothing_is_known():
    (reason,) = reasons_against([{"step": 200, "train/psnr": 30.0}], CONFIG)
    assert "never validated" in reason and "validate_every" in reason
    assert reasons_against([], CONFIG) == [reason]


def test_several_reasons_are_one_sentence():
    found = verdict(reasons_against(rows(dead_channels=1.0, outlier_share=0.5), CONFIG))
    assert found.count("because") == 1 and found.count("; ") == 1


def test_what_is_good_enough_may_improve():
    assert reasons_against(rows(psnr=30.0, before=28.0), CONFIG) == []


def test_one_logged_line_of_the_gan_is_chance():
    some = rows()
    some[2]["train/d_loss"] = 0.0
    assert reasons_against(some, CONFIG) == []


def test_thresholds_are_between_what_was_published_and_what_cannot_work():
    assert readiness.LEAST_PSNR_DB < 20.83 and 27.5 <= readiness.GOOD_PSNR_DB < 28.0
