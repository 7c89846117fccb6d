"""The patch discriminator: counts, map sizes, receptive field, batch size 1."""

import pytest
import torch
from torch import nn

from ldm.losses.patch_gan import PatchGAN


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize(("layers", "count"), [(2, 663_361), (3, 2_765_633), (4, 6_960_961)])
def test_published_parameter_counts(norm, layers, count):
    with torch.device("meta"):
        network = PatchGAN(in_channels=3, width=64, num_layers=layers, norm=norm)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(("layers", "size", "map_"), [(3, 256, 30), (2, 256, 62), (3, 128, 14)])
def test_published_map_sizes(layers, size, map_):
    with torch.device("meta"):
        network = PatchGAN(in_channels=3, width=64, num_layers=layers, norm="group")
        assert network(torch.empty(1, 3, size, size)).shape == (1, 1, map_, map_)


def test_a_logit_sees_exactly_seventy_pixels():
    # Without norms, whose statistics are global.
    network = PatchGAN(in_channels=1, width=2, num_layers=3, norm="batch").eval()
    image = torch.randn(1, 1, 256, 256, requires_grad=True)
    network(image)[0, 0, 15, 15].backward()
    seen = image.grad[0, 0].abs().sum(0).nonzero()
    assert int(seen.max() - seen.min()) + 1 == 70


def test_initialisation():
    torch.manual_seed(0)
    network = PatchGAN(in_channels=3, width=32, num_layers=3, norm="group")
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    kernel = convolutions[2].weight.detach()
    assert abs(float(kernel.std()) - 0.02) < 1e-3 and abs(float(kernel.mean())) < 1e-3
    assert abs(float(torch.cat([n.weight.detach() for n in norms]).mean()) - 1) < 0.01
    assert all(n.bias.abs().sum() == 0 for n in norms)
    assert [c.bias is None for c in convolutions] == [False, True, True, True, False]


def test_groups_divide_any_width():
    network = PatchGAN(in_channels=3, width=20, num_layers=2, norm="group")
    groups = [m.num_groups for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert groups == [20, 20]  # of 40 and 80 channels


def test_group_norm_works_at_batch_one_and_ignores_the_rest_of_the_batch():
    network = PatchGAN(in_channels=3, width=16, num_layers=3, norm="group").train()
    images = torch.randn(3, 3, 24, 24)
    alone = torch.cat([network(image[None]) for image in images])
    assert alone.shape == (3, 1, 1, 1)
    torch.testing.assert_close(alone, network(images))


def test_too_small_images_and_unknown_norms_are_explained():
    network = PatchGAN(in_channels=3, width=8, num_layers=3, norm="group")
    with pytest.raises(ValueError, match="16 x 16 px are too small.*24 px"):
        network(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="'layer'.*'group' or 'batch'"):
        PatchGAN(in_channels=3, width=8, num_layers=3, norm="layer")
