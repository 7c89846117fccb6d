"""How far below nothing a denoiser's loss is, in words."""

import pytest

from ldm.apps.closing import closing
from ldm.apps.learning import in_words, level

FACTS = {"val/loss": 0.05, "val/linear_loss": 0.4, "val/zero_loss": 1.0}


def test_a_loss_is_held_against_both_lines():
    found = level(FACTS)
    assert found is not None and found.times_below == pytest.approx(8.0)
    words = in_words(FACTS)
    assert "8.0 times below a linear predictor" in words and "(0.4)" in words
    assert "20.0 times below answering zero" in words


def test_what_learned_nothing_is_told_so():
    assert "nothing learned" in in_words(FACTS | {"val/loss": 0.97})
    assert level({"val/loss": 1.0}) is None and in_words({}) == ""


def test_bins_have_levels_of_their_own():
    numbers = {name + "_bin_3": value for name, value in FACTS.items()}
    assert level(numbers, "_bin_3") == level(FACTS) and level(numbers) is None


def test_the_closing_of_each_stage():
    assert closing("text_encoder", [], {}) == ("", {})
    assert closing("diffusion", [{"step": 1.0}], {}) == ("never validated", {})
    line, facts = closing("diffusion", [{"step": 1.0, **FACTS}, {"step": 2.0}], {})
    assert "8.0 times" in line and facts == {}
    line, facts = closing("autoencoder", [], {})
    assert line.startswith("not ready") and len(facts["not_ready_because"]) == 1


def test_a_loss_that_is_not_finite_is_not_praised():
    numbers = {"val/loss": float("nan"), "val/linear_loss": 0.4, "val/zero_loss": 1.0}
    assert "is not finite" in in_words(numbers)
    assert "inf times below" in in_words(numbers | {"val/loss": 0.0})
