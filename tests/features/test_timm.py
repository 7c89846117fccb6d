"""Any image network of timm, with weights from a local file."""

import pytest
import timm
import torch

from ldm.features.timm import read_timm


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def pictures(size_px):
    return torch.randint(0, 256, (2, 3, size_px, size_px)).float() / 127.5 - 1


def normalised(images, model):
    config = timm.get_pretrained_cfg(model)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (config.mean, config.std))
    return ((images + 1) / 2 - mean) / std


def saved(network, path, **more):
    torch.save(network.state_dict() | more, path)
    return path


@pytest.mark.parametrize("model, size_px", [("test_vit.r160_in1k", 160), ("test_resnet", 96)])
def test_it_is_timms_own_forward(model, size_px, tmp_path):
    theirs = timm.create_model(model, pretrained=False).eval()
    file = saved(theirs, tmp_path / "model.pth")
    images = pictures(size_px)
    before = torch.get_rng_state()
    features = read_timm(model, file, size_px=size_px)
    assert torch.equal(torch.get_rng_state(), before)
    expected = theirs.forward_head(
        theirs.forward_features(normalised(images, model)), pre_logits=True
    )
    found = features(images)
    assert found.shape == (2, features.num_features)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert len(features.protocol["features_hash"]) == 16


def test_the_size_and_statistics_are_those_of_the_weights(tmp_path):
    file = saved(timm.create_model("test_vit"), tmp_path / "model.pth")
    protocol = read_timm("test_vit.r160_in1k", file, size_px=None).protocol
    config = timm.get_pretrained_cfg("test_vit.r160_in1k")
    assert protocol["resize"]["size_px"] == list(config.input_size[1:])
    assert protocol["resize"]["kernel"].startswith(config.interpolation)
    assert (tuple(protocol["mean"]), tuple(protocol["std"])) == (config.mean, config.std)


DINOV2 = "vit_small_patch14_dinov2"


@pytest.fixture(scope="module")
def dinov2():
    """As Meta publishes it: 37 x 37 positions, and a mask token that only training needs."""
    torch.manual_seed(0)
    return timm.create_model(DINOV2, pretrained=False).eval()


def test_dinov2_from_metas_file_gives_the_class_token(dinov2, tmp_path):
    file = saved(dinov2, tmp_path / "dinov2.pth", mask_token=torch.zeros(1, 384))
    features = read_timm(DINOV2, file, size_px=56)
    images = pictures(70)
    prepared = features.preprocessing(images)
    network = features.network.model
    expected = network.forward_features(prepared)[:, 0]
    assert torch.equal(features(images), expected) and features.num_features == 384
    assert "class token" in features.protocol["pooling"]
    # The same network at its own size: nothing is resampled.
    whole = read_timm(DINOV2, file, size_px=None).network.model
    assert torch.equal(whole.pos_embed, dinov2.pos_embed)


def test_metas_positions_are_resampled_as_metas_code_does(dinov2, tmp_path):
    """Positions that grow by 1 per column show where the new grid looks, away from the border."""
    columns = torch.arange(37.0).expand(37, 37).reshape(1, -1, 1).expand(1, -1, 384)
    positions = torch.cat([torch.full((1, 1, 384), 7.0), columns], dim=1)
    meta = {"pos_embed": positions, "mask_token": torch.zeros(1, 384)}
    file = saved(dinov2, tmp_path / "dinov2.pth", **meta)
    found = read_timm(DINOV2, file, size_px=224).network.model.pos_embed
    expected = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    assert found.shape == (1, 257, 384) and float(found[0, 0, 0]) == 7.0
    inner = found[0, 1:, 0].unflatten(0, (16, 16))[:, 2:-2]
    # Bicubic with a = -0.75 bends a line by up to 0.06; without the offset it is 0.2 off here.
    torch.testing.assert_close(inner, expected[2:-2].expand(16, -1), rtol=0, atol=0.06)


@pytest.mark.parametrize(
    "model, message",
    [
        ("vit_tiny_patch16", "is no image network of timm. Did you mean vit_tiny_patch16_"),
        ("hf-hub:timm/vit", "is no image network of timm"),
        ("test_vit.nothing", "Leave out what follows the dot"),
    ],
)
def test_unknown_models_are_told(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_timm(model, tmp_path / "none.pth", size_px=None)


def test_the_weights_of_another_model_are_refused(tmp_path):
    file = saved(timm.create_model("test_resnet"), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth holds the weights of another model"):
        read_timm("test_vit", file, size_px=None)
