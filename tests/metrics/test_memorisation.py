"""Copies that were planted are found, and held-out pictures are not taken for copies."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from ldm.metrics.memorisation import Memorisation, nearest


def pictures(count, seed):
    """Smooth random pictures (count, 3, 32, 32) in 0..1, each of its own colours and shapes."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=32, mode="bicubic", align_corners=False).clamp(0, 1)


def random_features(images):
    """Two random convolutions, pooled to 2 x 2."""
    generator = torch.Generator().manual_seed(5)
    first = torch.randn(16, 3, 5, 5, generator=generator) / 75**0.5
    second = torch.randn(32, 16, 3, 3, generator=generator) / 144**0.5
    hidden = functional.conv2d(images - 0.5, first, stride=2).relu()
    return functional.adaptive_avg_pool2d(functional.conv2d(hidden, second).relu(), 2).flatten(1)


def as_jpeg(image):
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=85)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1) / 255


def test_planted_copies_are_found_and_held_out_pictures_are_none():
    training, held_out, new = (pictures(n, seed) for seed, n in enumerate((400, 200, 60)))
    copies = [training[17], training[30].flip(-1), as_jpeg(training[44])]
    samples = torch.cat([new, torch.stack(copies)])
    noted = random_features(training).split(64)
    distances, where = {}, {}
    for name, images in (("real", held_out), ("fake", samples)):
        both = [nearest(random_features(side), noted) for side in (images, images.flip(-1))]
        distances[name] = torch.minimum(*(one.distance for one in both))
        where[name] = torch.where(
            both[0].distance <= both[1].distance, both[0].training, both[1].training
        )
    assert where["fake"][-3:].tolist() == [17, 30, 44]
    assert distances["fake"][-3:-1].max() < 1e-5
    metric = Memorisation(share=0.01)
    metric.update(distances["real"], real=True)
    metric.update(distances["fake"], real=False)
    found = {name: float(value) for name, value in metric.compute().items()}
    # The three, and of the others no more than of held-out pictures.
    assert 3 / 63 <= found["copies"] <= 3 / 63 + 2 / 60
    assert found["ratio"] == pytest.approx(1.0, abs=0.15)
    assert found["ratio"] == found["distance"] / found["distance_real"]
    metric.reset()
    for real in (True, False):
        metric.update(distances["real"], real=real)
    assert float(metric.compute()["copies"]) == 0.01


def test_the_nearest_is_that_of_a_plain_search():
    queries, training = torch.randn(50, 6).double(), torch.randn(3000, 6).double()
    found = nearest(queries, training.split(700))
    whole = torch.cdist(functional.normalize(queries), functional.normalize(training))
    assert torch.equal(found.training, whole.argmin(1))
    torch.testing.assert_close(found.distance.double(), whole.amin(1), atol=1e-6, rtol=0.0)


def test_copies_are_found_among_near_twins():
    centres, apart = (functional.normalize(torch.randn(20, n, 64), dim=-1) for n in (1, 100))
    twins = (centres + 4e-4 * apart).flatten(0, 1)
    found = nearest(twins[::3], twins.split(300))
    assert found.training.tolist() == list(range(0, 2000, 3))
    assert found.distance.max() < 1e-6


@pytest.mark.parametrize("share, count", [(0.07, 100), (0.55, 100), (0.1, 3)])
def test_the_share_of_held_out_pictures_is_not_raised_by_rounding(share, count):
    metric = Memorisation(share)
    for real in (True, False):
        metric.update(torch.arange(count) / count, real=real)
    expected = -(-round(share * 100) * count // 100)  # in whole numbers, rounded up
    assert float(metric.compute()["copies"]) == pytest.approx(expected / count)


def test_a_copy_is_as_near_as_the_nearest_of_few_held_out_pictures():
    metric = Memorisation(share=0.01)
    metric.update(torch.tensor([0.3, 0.2, 0.5]), real=True)
    metric.update(torch.tensor([0.1, 0.2, 0.4, 0.9]), real=False)
    found = metric.compute()
    assert float(found["copies"]) == 0.5 and float(found["copies_real"]) == pytest.approx(1 / 3)


def test_duplicates_in_the_data_do_not_hide_copies():
    metric = Memorisation(share=0.01)
    held_out = torch.linspace(0.2, 0.4, 100)
    held_out[:5] = 0.0
    metric.update(held_out, real=True)
    metric.update(torch.tensor([0.3, 1e-7, 0.0, 0.3]), real=False)
    found = metric.compute()
    assert float(found["copies"]) == 0.5 and float(found["copies_real"]) == pytest.approx(0.05)


def test_what_lacks_is_said():
    metric = Memorisation(share=0.01)
    metric.update(torch.ones(2), real=False)
    with pytest.raises(ValueError, match="held-out pictures: both"):
        metric.compute()
    with pytest.raises(ValueError, match="no training pictures"):
        nearest(torch.ones(2, 3), [])
