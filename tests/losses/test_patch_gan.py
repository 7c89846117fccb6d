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


@pytest.mark.parametrize(
    ("layers", "size", "map_"), [(3, 256, 30), (2, 256, 62), (3, 128, 14), (3, 512, 62)]
)
def test_published_map_sizes(layers, size, map_):
    with torch.device("meta"):
        network = PatchGAN(in_channels=3, width=64, num_layers=layers, norm="group")
        assert network(torch.empty(1, 3, size, size)).shape == (1, 1, map_, map_)


@pytest.mark.parametrize(("layers", "field"), [(2, 34), (3, 70), (4, 142)])
def test_what_a_logit_sees(layers, field):
    # Without norms, whose statistics are global.
    network = PatchGAN(in_channels=1, width=2, num_layers=layers, norm="batch").eval()
    image = torch.randn(1, 1, 320, 320, requires_grad=True)
    logits = network(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = image.grad[0, 0].abs().sum(0).nonzero()
    assert int(seen.max() - seen.min()) + 1 == field


def test_with_batch_norm_it_is_the_originals_network():
    """Isola et al.'s layers written out, statistics over the batch included."""
    torch.manual_seed(0)
    ours = PatchGAN(in_channels=3, width=8, num_layers=3, norm="batch")

    def block(in_, out, stride):
        norm, conv = nn.BatchNorm2d(out), nn.Conv2d(in_, out, 4, stride, padding=1, bias=False)
        return [conv, norm, nn.LeakyReLU(0.2)]

    theirs = nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, padding=1), nn.LeakyReLU(0.2), *block(8, 16, 2), *block(16, 32, 2),
        *block(32, 64, 1), nn.Conv2d(64, 1, 4, 1, padding=1),
    )  # fmt: skip
    theirs.load_state_dict(ours.layers.state_dict())
    for network in (ours, theirs):
        network.train()
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images))
    torch.testing.assert_close(ours.layers.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_initialisation():
    torch.manual_seed(0)
    network = PatchGAN(in_channels=3, width=32, num_layers=3, norm="group")
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    kernel = convolutions[2].weight.detach()
    assert abs(float(kernel.std()) - 0.02) < 1e-3 and abs(float(kernel.mean())) < 1e-3
    scales = torch.cat([n.weight.detach() for n in norms])
    assert abs(float(scales.mean()) - 1) < 0.01 and abs(float(scales.std()) - 0.02) < 0.003
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
