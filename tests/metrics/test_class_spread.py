"""The spread within classes against direct formulas."""

import pytest
import torch

from ldm.metrics.class_spread import ClassSpread, areas


def images_of(classes, amount, seed):
    generator = torch.Generator().manual_seed(seed)
    centre = (classes.float() * 0.1 - 0.2).view(-1, 1, 1, 1)
    noise = torch.randn(len(classes), 1, 8, 8, generator=generator)
    pictures = (centre + amount * noise).clamp(-1, 1).expand(-1, 3, -1, -1)
    return areas(pictures, 8)


CLASSES = torch.arange(60) % 3


def spread(amount, seed=1, real_amount=0.1, parts=1):
    metrics = [ClassSpread(3) for _ in range(parts)]
    for real, images in (
        (True, images_of(CLASSES, real_amount, 0)),
        (False, images_of(CLASSES, amount, seed)),
    ):
        for i, metric in enumerate(metrics):
            metric.update(images[i::parts], CLASSES[i::parts], real=real)
    for other in metrics[1:]:
        metrics[0].merge_state(other)
    return metrics[0]


def test_the_same_distribution_gives_one_and_half_gives_half():
    assert float(spread(0.1).compute()) == pytest.approx(1.0, abs=0.05)
    assert float(spread(0.05).compute()) == pytest.approx(0.5, abs=0.03)


def test_clones_give_zero_although_classes_differ():
    assert float(spread(0.0).compute()) == 0.0


def test_it_is_the_ratio_of_total_standard_deviations():
    metric = spread(0.07)
    sides = [images_of(CLASSES, 0.1, 0), images_of(CLASSES, 0.07, 1)]
    for k in range(3):
        members = CLASSES.eq(k)
        total = [x[members].double().flatten(1).var(0).sum().sqrt() for x in sides]
        assert float(metric.per_class()[k]) == pytest.approx(float(total[1] / total[0]), rel=1e-6)
        rows = sides[1][members].double().flatten(1)
        pairwise = torch.pdist(rows).square().mean()
        assert float(total[1]) == pytest.approx(float((pairwise / 2).sqrt()), rel=1e-9)


def test_any_split_gives_the_same_value():
    torch.testing.assert_close(spread(0.07, parts=2).compute(), spread(0.07).compute())


def test_classes_without_enough_images_are_left_out():
    metric = ClassSpread(4)
    images = images_of(CLASSES, 0.1, 0)
    metric.update(images, CLASSES, real=True)
    metric.update(images[CLASSES == 1], [1] * 20, real=False)
    metric.update(images[:1], [0], real=False)
    assert metric.per_class().isnan().tolist() == [True, False, True, True]
    assert float(metric.compute()) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="there is none"):
        ClassSpread(2).compute()
