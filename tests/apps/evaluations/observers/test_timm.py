"""What is noted of pictures in a network of timm."""

import pytest
import timm
import torch

from ldm.apps.evaluations.observers.timm import timm_features
from tests.apps.evaluations.given import Given, block, weights_in


def test_the_weights_of_a_file_are_noted_and_recorded(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    with pytest.raises(ValueError, match="No published checksum is known"):
        timm_features(Given(weights_dir=str(tmp_path)), model="test_vit", file="vit.pth")
    setting = weights_in(tmp_path)
    observer = timm_features(setting, model="test_vit", file="vit.pth", size_px=64)
    images = block(3)
    rows = observer(images)
    assert rows["features"].shape == (3, observer.num_features)
    assert torch.equal(rows["features"], observer.features(images.images))
    assert observer.protocol["weights_file"] == "vit.pth"
    assert len(observer.protocol["weights_sha256"]) == 64
    assert observer.protocol["unpublished_weights"] == "vit.pth"
    again = timm_features(setting, model="test_vit", file="vit.pth", size_px=64)
    assert again.features is observer.features  # read once
