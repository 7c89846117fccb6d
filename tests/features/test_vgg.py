"""Our VGG16 trunk against torchvision's."""

import pytest
import torch

from ldm.features.vgg import CHANNELS, VGG16, read_vgg16


@pytest.fixture(scope="module")
def reference():
    from torchvision.models import vgg16

    torch.manual_seed(0)
    with torch.device("meta"):
        model = vgg16(weights=None)
    model.features.to_empty(device="cpu")
    for layer in model.features:
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return model.features.eval()


def test_a_file_of_torchvision_loads_and_gives_its_features(reference, tmp_path):
    state = {f"features.{name}": value for name, value in reference.state_dict().items()}
    torch.save({**state, "classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg.pth")
    before = torch.get_rng_state()
    ours = read_vgg16(tmp_path / "vgg.pth")
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    assert ours.state_dict().keys() == state.keys()
    x = torch.randn(2, 3, 32, 32)
    expected, y = [], x
    for index, layer in enumerate(reference):
        y = layer(y)
        if index in (3, 8, 15, 22, 29):
            expected.append(y.clone())
    found = ours(x.clone())
    assert [f.shape[1] for f in found] == list(CHANNELS)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_it_is_frozen_and_cannot_be_put_into_training():
    network = VGG16().train()
    assert not network.training and not network.features[0].training
    assert not any(p.requires_grad for p in network.parameters())


def test_another_network_is_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="is not torchvision's VGG16"):
        read_vgg16(tmp_path / "other.pth")
