"""Precision and recall against torch-fidelity, and which is which."""

import pytest
import torch

from ldm.metrics import precision_recall
from ldm.metrics.precision_recall import PrecisionRecall
from tests.metrics.features import features


def shares(fake, real):
    metric = PrecisionRecall(neighbours=3)
    metric.update(fake, real=False)
    for block in real.split(100):
        metric.update(block, real=True)
    found = metric.compute()
    return float(found["precision"]), float(found["recall"])


@pytest.mark.parametrize("size, shift", [(64, 0.0), (64, 0.1), (512, 0.05)])
@pytest.mark.parametrize("tile", [2048, 150])
def test_it_equals_torch_fidelity(size, shift, tile, monkeypatch):
    from torch_fidelity.metric_prc import prc_features_to_metric

    monkeypatch.setattr(precision_recall, "_TILE", tile)
    fake, real = features(400, size, seed=0, shift=shift), features(500, size, seed=1)
    theirs = prc_features_to_metric(fake.double(), real.double(), verbose=False)
    precision, recall = shares(fake, real)
    assert precision == pytest.approx(theirs["precision"], rel=1e-6)
    assert recall == pytest.approx(theirs["recall"], rel=1e-6)
    assert 0 < recall < 1


def test_collapsed_samples_are_precise_and_recall_nothing():
    real = features(300, 16, seed=0)
    collapsed = real[7].expand(200, 16)  # far from the origin and all the same
    precision, recall = shares(collapsed + 100, real + 100)
    assert precision == 1.0 and recall <= 1 / 300
    precision, recall = shares(real, torch.cat([collapsed, collapsed]))
    assert precision <= 1 / 300 and recall == 1.0


def test_a_set_is_its_own_manifold_and_a_far_one_is_outside():
    real = features(200, 16)
    assert shares(real, real) == (1.0, 1.0)
    assert shares(real + 1000, real) == (0.0, 0.0)


def test_too_few_pictures_are_refused():
    with pytest.raises(ValueError, match="3 generated pictures have no 3 neighbours"):
        shares(torch.zeros(3, 2), torch.zeros(9, 2))
