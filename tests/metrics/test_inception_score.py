"""The Inception score against torch-fidelity and its bounds."""

import pytest
import torch

from ldm.metrics.inception_score import InceptionScore


def score(logits, splits=10):
    metric = InceptionScore(splits)
    for block in logits.split(64):
        metric.update(block)
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("count, classes", [(200, 10), (333, 1008)])
def test_it_equals_torch_fidelity(count, classes):
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(0))
    theirs, ours = isc_features_to_metric(logits), score(logits)
    assert ours["inception_score"] == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert ours["inception_score_std"] == pytest.approx(theirs["inception_score_std"], rel=1e-6)


def test_it_is_1_where_all_look_alike_and_the_number_of_classes_where_all_are_sure():
    same = torch.randn(1, 5).expand(40, 5)
    assert score(same)["inception_score"] == pytest.approx(1.0)
    sure = 1000.0 * torch.eye(5).repeat(8, 1)
    assert score(sure, splits=1)["inception_score"] == pytest.approx(5.0)


def test_fewer_pictures_than_parts_are_refused():
    with pytest.raises(ValueError, match="score of 9 pictures.*10 parts.*num_samples"):
        score(torch.zeros(9, 3))
