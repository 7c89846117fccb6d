"""LPIPS against the lpips package, and its gradients where the original has none."""

import pytest
import torch

from ldm.features.vgg import VGG16
from ldm.losses.lpips import LPIPS, pretrained_lpips, read_heads


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    network = VGG16()
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.kaiming_normal_(parameter)
    return network


@pytest.fixture(scope="module")
def ours(trunk):
    return LPIPS(trunk, read_heads())


@pytest.fixture(scope="module")
def theirs(trunk):
    import torchvision
    from lpips import LPIPS as Theirs

    with pytest.MonkeyPatch.context() as patch:
        # The package builds a whole VGG16 only to take its features; give it ours (saves 4 s).
        patch.setattr(torchvision.models, "vgg16", lambda **_: trunk)
        return Theirs(net="vgg", pnet_rand=True, verbose=False).eval()


@pytest.mark.parametrize("size", [(64, 64), (16, 17), (33, 47), (65, 31), (99, 128)])
def test_it_equals_the_lpips_package_on_the_same_trunk(ours, theirs, size, agree):
    torch.manual_seed(1)
    x, y = torch.rand(2, 3, 3, *size) * 2 - 1
    pictures = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = ours(pictures[0], y), theirs(pictures[1], y).flatten()
    assert found.shape == (3,) and (expected > 0.01).all()
    settings = {"configuration": f"vgg, {size[0]} x {size[1]} px", "tolerance": 1e-6}
    agree(found, expected, component="LPIPS", **settings)
    for distance in (found, expected):
        distance.sum().backward()
    gradients = [picture.grad / pictures[1].grad.abs().max() for picture in pictures]
    agree(*gradients, component="LPIPS, gradient over its largest value", **settings)


def test_close_pictures_have_the_packages_distance(ours, theirs):
    """Where reconstructions are good, the distance is a difference of nearly equal features."""
    torch.manual_seed(1)
    x = torch.rand(2, 3, 33, 47) * 2 - 1
    y = x + 0.01 * torch.randn_like(x)
    found, expected = ours(x, y), theirs(x, y).flatten()
    assert (expected < 1e-3).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_gradients_are_finite_for_constant_and_identical_images(ours, value):
    constant = torch.full((1, 3, 32, 32), value)
    for reference in (constant, torch.rand(1, 3, 32, 32) * 2 - 1):
        x = constant.clone().requires_grad_()
        loss = ours(x, reference)
        loss.sum().backward()
        assert loss.isfinite().all() and x.grad.isfinite().all()
    assert float(ours(constant, constant)) == 0.0


def test_a_trunk_that_is_silent_everywhere_gives_a_finite_gradient():
    class Silent(torch.nn.Module):
        def forward(self, x):
            return [torch.relu(x - 100.0)] * 5

    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    LPIPS(Silent(), [torch.ones(1, 3, 1, 1)] * 5)(x, torch.rand(1, 3, 16, 16)).sum().backward()
    assert x.grad.isfinite().all()


def test_it_is_frozen_in_eval_and_float32(ours):
    ours.train()
    assert not any(m.training for m in ours.modules())
    assert not any(p.requires_grad for p in ours.parameters())
    x, y = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ours(x.bfloat16(), y.bfloat16())
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, ours(x.bfloat16().float(), y.bfloat16().float()))


def test_without_the_trunks_file_the_remedy_is_named(tmp_path):
    with pytest.raises(ValueError, match="vgg16-397923af.pth is missing"):
        pretrained_lpips(tmp_path)


def test_grey_images_are_repeated(ours):
    x, y = torch.rand(2, 2, 1, 32, 32) * 2 - 1
    expected = ours(x.repeat(1, 3, 1, 1), y.repeat(1, 3, 1, 1))
    torch.testing.assert_close(ours(x, y), expected, rtol=0, atol=0)
