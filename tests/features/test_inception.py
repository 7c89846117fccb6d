"""The FID Inception from a local file."""

import importlib.util
import os

import pytest
import torch

from ldm.features.inception import pretrained_inception, read_inception

_HAS_FIDELITY = importlib.util.find_spec("torch_fidelity") is not None


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="weights-inception-2015-12-05-6726825d.pth is missing"):
        pretrained_inception(tmp_path)


@pytest.mark.skipif(_HAS_FIDELITY, reason="torch-fidelity is installed")
def test_without_torch_fidelity_the_remedy_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"ldm\[fid\]"):
        read_inception(tmp_path / "file.pth")


@pytest.mark.skipif(not _HAS_FIDELITY, reason="needs torch-fidelity (extra fid)")
def test_features_equal_torch_fidelity_with_the_same_weights(tmp_path, monkeypatch):
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    class Untrained(theirs.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__):
            return None

    torch.manual_seed(0)
    torch.save({}, tmp_path / "empty.pth")
    reference = Untrained("x", ["2048"], str(tmp_path / "empty.pth"))
    path = tmp_path / "inception.pth"
    torch.save(reference.state_dict(), path)
    ours = read_inception(path).train()
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    found = ours(images.float() / 127.5 - 1)
    assert found.shape == (2, ours.num_features) and not ours.network.training
    torch.testing.assert_close(found, reference(images)[0])
    assert not any(p.requires_grad for p in ours.parameters())


@pytest.mark.skipif(not _HAS_FIDELITY, reason="needs torch-fidelity (extra fid)")
def test_code_in_the_weights_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="could run code"):
        read_inception(tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()
