"""The perceptual distance from one's own features."""

import torch

from ldm.losses.own_perceptual import OwnPerceptual
from ldm.losses.unit_channels import unit_channels


class Features:
    def layers(self, images):
        return [images, torch.relu(images[:, :2, ::2, ::2])]


def test_it_is_the_mean_squared_difference_of_unit_vectors():
    x, y = torch.randn(2, 3, 3, 8, 8)
    expected = torch.zeros(3)
    for a, b in zip(Features().layers(x), Features().layers(y), strict=True):
        a, b = (f / f.norm(dim=1, keepdim=True).clamp_min(1e-5) for f in (a, b))
        expected += (a - b).square().sum(1).flatten(1).mean(1) / 2
    torch.testing.assert_close(OwnPerceptual(Features())(x, y), expected)


def test_extremes_and_gradients():
    x = torch.randn(1, 3, 4, 4)
    distance = OwnPerceptual(Features())
    assert float(distance(x, x)) == 0.0
    zero = torch.zeros(1, 3, 4, 4, requires_grad=True)
    distance(zero, x).sum().backward()
    assert zero.grad.isfinite().all()


def test_unit_channels_have_length_one_and_zero_stays_zero():
    unit = unit_channels(torch.randn(2, 5, 3, 3))
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2, 3, 3))
    assert unit_channels(torch.zeros(1, 2, 1, 1)).abs().sum() == 0
