"""The FID Inception against torch-fidelity, with random weights in the format of the real file."""

import os

import pytest
import torch

from ldm.features.inception import WIDTHS, InceptionFeatures, read_inception
from ldm.features.inception_network import LAYERS

FILE = "weights-inception-2015-12-05-6726825d.pth"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The format of torch-fidelity's file; activations keep their size from layer to layer."""
    from tests.features.random_inception import write_random_inception

    return write_random_inception(tmp_path_factory.mktemp("weights") / FILE)


@pytest.fixture(scope="module")
def reference(file):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("inception", list(LAYERS), str(file))


@pytest.fixture(scope="module")
def network(file):
    return read_inception(file)


def pictures(count, size_px):
    generator = torch.Generator().manual_seed(size_px)
    return torch.randint(0, 256, (count, 3, size_px, size_px), generator=generator).byte()


def features_of(network, layer=2048, resize="torch_fidelity"):
    return InceptionFeatures(network, layer=layer, resize=resize)


@pytest.mark.parametrize("size_px", [32, 64, 299, 512])
def test_every_layer_is_torch_fidelitys(network, reference, size_px, agree):
    levels = pictures(1, size_px)
    expected = reference(levels)
    found = features_of(network).layers(levels.float() / 127.5 - 1, *LAYERS)
    for layer, theirs in zip(LAYERS, expected, strict=True):
        assert found[layer].dtype == torch.float32 and float(theirs.std()) > 0.01
        size = theirs.abs().max()
        agree(
            found[layer] / size,
            theirs / size,
            component=f"Inception, {layer}",
            configuration=f"{size_px} px",
            tolerance=1e-5,
        )


def test_a_layer_is_called_by_its_width_and_nothing_deeper_is_computed(network, monkeypatch):
    images = pictures(1, 32).float() / 127.5 - 1
    whole = features_of(network).layers(images, *LAYERS)

    def never(x):
        raise AssertionError("deeper than asked for")

    monkeypatch.setattr(network.Mixed_7a, "forward", never)
    for layer in WIDTHS[:3]:
        features = features_of(network, layer)
        found = features(images)
        assert found.shape == (1, layer) == (1, features.num_features)
        assert torch.equal(found, whole[str(layer)])
    with pytest.raises(AssertionError, match="deeper"):
        features_of(network)(images)


def test_kernels_change_the_features(network):
    images = pictures(1, 40).float() / 127.5 - 1
    found = [features_of(network, 64, name)(images) for name in ("original", "clean_fid")]
    assert torch.equal(found[0], features_of(network, 64)(images))
    assert float((found[0] - found[1]).abs().max()) > 1e-3


def test_the_pytorch_kernel_scales_as_that_program_does(network):
    images = pictures(1, 299).float() / 127.5 - 1  # no resizing at this size
    expected = network(images, ["64"])["64"]
    torch.testing.assert_close(features_of(network, 64, "pytorch_fid")(images), expected)


def test_grey_pictures_autocast_and_training_change_nothing(network):
    images = pictures(2, 20)[:, :1].float() / 127.5 - 1
    features = features_of(network, 64).train()
    expected = features(images.expand(-1, 3, -1, -1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = features(images)
    assert torch.equal(found, expected) and found.dtype == torch.float32
    assert not any(module.training for module in features.modules())
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_the_protocol_says_layer_weights_and_resize(network):
    protocol = features_of(network, 768, "clean_fid").protocol
    assert protocol["layer"] == 768 and len(protocol["features_hash"]) == 16
    assert protocol["resize"]["antialias"] is True
    with pytest.raises(ValueError, match="layer=100 is unknown; choose one of .64, 192"):
        features_of(network, 100)


def test_another_network_is_refused(tmp_path):
    torch.save({"fc.bias": torch.zeros(1008)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth is not the FID Inception"):
        read_inception(tmp_path / "other.pth")


def test_code_in_the_weights_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="could run code"):
        read_inception(tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()
