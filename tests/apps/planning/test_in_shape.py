"""Towers in shape alone against what they stand for: the same weights, about the same memory."""

import pytest

from ldm.apps.compose import compose
from ldm.apps.planning.companions import companions
from ldm.apps.planning.in_shape import parts_in_shape
from ldm.apps.planning.memory import holdings_of
from ldm.apps.planning.parts import parts_of


@pytest.mark.parametrize("experiment", ["demo_text_encoder", "demo_autoencoder", "sdxl_1024"])
def test_they_hold_what_the_real_ones_hold(experiment):
    small = ["size=64", "micro_batch=1"] if experiment == "sdxl_1024" else []
    config = compose("train", [f"experiment={experiment}", "data.root=DATA", *small])
    found = companions(config, autoencoder=None, text_encoder=None, experiment=experiment)
    real, shape = (holdings_of(config, of(config, found)) for of in (parts_of, parts_in_shape))
    assert shape.trained == real.trained
    # The logit scale is no weight of the text tower; a perceptual distance is the image tower.
    assert shape.others == pytest.approx(real.others, rel=1e-3, abs=8)
    assert shape.per_picture == pytest.approx(real.per_picture, rel=0.15)  # activations have none
