"""Preprocessing of pretrained networks against the programs that define it."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ldm.features.prepared import PreparedFeatures, Preprocessing

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SHAPES = [(20, 20), (20, 31), (37, 24), (16, 16), (90, 33)]


def preprocessing(shape="crop", size=(16, 16)):
    return Preprocessing(size=size, mean=MEAN, std=STD, interpolation="bicubic", shape=shape)


def pictures(height, width):
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (2, 3, height, width), generator=generator).byte()


def as_pillow(levels):
    return [Image.fromarray(np.array(picture.permute(1, 2, 0))) for picture in levels]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_open_clip_does(shape):
    from open_clip.transform import image_transform

    theirs = image_transform(16, is_train=False, mean=MEAN, std=STD)
    levels = pictures(*shape)
    found = preprocessing("crop_even")(levels.float() / 127.5 - 1)
    expected = torch.stack([theirs(picture) for picture in as_pillow(levels)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_transformers_does_with_pillow(shape):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    theirs = CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size=16, image_mean=MEAN, image_std=STD
    )
    levels = pictures(*shape)
    found = preprocessing("crop")(levels.float() / 127.5 - 1)
    expected = theirs(as_pillow(levels), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_squashed_sides_are_resized_by_themselves():
    levels = pictures(10, 30)
    found = preprocessing("squash", (8, 12))(levels.float() / 127.5 - 1)
    (first, _) = as_pillow(levels)
    resized = np.array(first.resize((12, 8), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    expected = (torch.from_numpy(resized) - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(found[0], expected.permute(2, 0, 1))


def test_features_are_frozen_in_float32_and_say_how_they_were_made():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x):
            return self.layer(x.mean((2, 3)))

    features = PreparedFeatures(
        Mean(), preprocessing(), num_features=4, protocol={"features": "mean"}
    )
    grey = torch.rand(2, 1, 20, 24) * 2 - 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = features.train()(grey)
    assert found.dtype == torch.float32 and not features.network.training
    assert torch.equal(found, features(grey.expand(-1, 3, -1, -1)))
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert features.protocol["resize"]["size_px"] == [16, 16]
    assert features.protocol | {"features": "mean", "mean": list(MEAN)} == features.protocol
