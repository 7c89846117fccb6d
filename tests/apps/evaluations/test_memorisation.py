"""Planted copies are found by the measure, mirrored ones too, and listed for the report."""

import pytest
import torch

from ldm.apps.errors import UserError
from ldm.apps.evaluations.memorisation import copies
from tests.apps.evaluations.pixels import Pixels, given, numbers, pictures

SETTINGS = {"share": 0.01, "listed": 3}


def test_planted_copies_are_found_and_listed():
    training = pictures(200)
    planted = torch.stack([training[70], training[5].flip(-1)])
    samples = torch.cat([pictures(30, seed=1), planted])
    sets = given(samples=samples, reference=pictures(60, seed=2), training=training)
    found = numbers(copies(sets, "memorisation", Pixels(), **SETTINGS), sets)
    assert found["memorisation.copies"].value == pytest.approx(2 / 32, abs=2 / 32)
    assert found["memorisation.copies"].value >= 2 / 32
    assert found["memorisation.ratio"].value == pytest.approx(1.0, abs=0.2)
    assert found["memorisation.distance"].protocol["training"] == "the training"
    pairs = sets.kept["nearest"]
    assert [(pair["sample"], pair["training"]) for pair in pairs[:2]] == [(30, 70), (31, 5)]
    assert len(pairs) == 3 and 1e-5 > pairs[1]["distance"] <= pairs[2]["distance"]


def test_a_reference_of_training_pictures_is_told(capsys):
    training = pictures(50)
    sets = given(samples=pictures(9, seed=1), reference=training[:30], training=training)
    found = numbers(copies(sets, "memorisation", Pixels(), **SETTINGS), sets)
    assert "memorisation.ratio" not in found and found["memorisation.copies"].value == 0.0
    assert found["memorisation.distance_real"].value == 0.0
    assert found["memorisation.copies_real"].value == 1.0
    assert "most reference pictures are training pictures" in capsys.readouterr().out


def test_without_training_pictures_nothing_begins():
    sets = given(samples=pictures(9), reference=pictures(9))
    with pytest.raises(UserError, match="no training"):
        copies(sets, "memorisation", Pixels(), **SETTINGS)


@pytest.mark.parametrize(
    "wrong, told",
    [({"share": 1.0}, "between 0 and 1"), ({"share": 0}, "not 0"), ({"listed": -1}, "listed=-1")],
)
def test_settings_without_a_number_are_refused_before_anything_is_made(wrong, told):
    sets = given(samples=pictures(9), reference=pictures(9), training=pictures(9))
    with pytest.raises(ValueError, match=told):
        copies(sets, "memorisation", Pixels(), **SETTINGS | wrong)
