"""The CLIP image tower as frozen features."""

import pytest
import torch

from ldm.features.clip_image import ClipImageFeatures
from ldm.features.quantise import quantise, to_uint8

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


@pytest.fixture(scope="module")
def clip():
    from open_clip.model import CLIP

    torch.manual_seed(0)
    return CLIP(
        embed_dim=24,
        vision_cfg={"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
        text_cfg={"context_length": 8, "vocab_size": 50, "width": 16, "heads": 1, "layers": 1},
    )


def features_of(clip, *, normalize=False):
    return ClipImageFeatures(clip, size_px=32, mean=MEAN, std=STD, normalize=normalize)


def test_the_embedding_is_the_models_own(clip):
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    pixels = (images + 1) / 2
    prepared = (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    raw, unit = features_of(clip), features_of(clip, normalize=True)
    torch.testing.assert_close(raw(images), clip.encode_image(prepared))
    torch.testing.assert_close(unit(images), clip.encode_image(prepared, normalize=True))
    assert raw(images).shape == (2, raw.num_features) == (2, 24)


def test_layers_are_maps_with_a_gradient_to_the_image(clip):
    images = torch.rand(2, 3, 48, 40, requires_grad=True)
    maps = features_of(clip).layers(images)
    assert [m.shape for m in maps] == [(2, 32, 4, 4)] * 3
    sum(m.square().sum() for m in maps).backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in clip.visual.parameters())


def test_autocast_does_not_lower_the_precision(clip):
    images = torch.rand(1, 3, 32, 32)
    features = features_of(clip).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = features(images)
    assert inside.dtype == torch.float32 and not features.training
    torch.testing.assert_close(inside, features(images))


def test_the_protocol_names_the_weights_and_the_size_is_checked(clip):
    protocol = features_of(clip).protocol
    assert len(protocol["features_hash"]) == 16 and "antialias on" in protocol["resize"]
    with pytest.raises(ValueError, match="size_px=64.*32 x 32"):
        ClipImageFeatures(clip, size_px=64, mean=MEAN, std=STD, normalize=True)


def test_eight_bits_are_clipped_rounded_and_idempotent():
    levels = torch.arange(256) / 127.5 - 1
    assert torch.equal(to_uint8(levels), torch.arange(256, dtype=torch.uint8))
    torch.testing.assert_close(quantise(levels), levels)
    assert to_uint8(torch.tensor([-3.0, 3.0, 0.999])).tolist() == [0, 255, 255]
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.tensor([float("nan")]))


def test_grey_images_are_repeated_and_other_channels_refused(clip):
    features = features_of(clip)
    grey = torch.rand(2, 1, 32, 32) * 2 - 1
    torch.testing.assert_close(features(grey), features(grey.repeat(1, 3, 1, 1)), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"5 channels .* perceptual_channels=\[A,B,C\]"):
        features(torch.zeros(2, 5, 32, 32))
