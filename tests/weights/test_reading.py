"""Files of tensors are read without running code."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from ldm import weights


@pytest.mark.parametrize("nested", [False, True])
def test_tensors_come_back_from_both_formats(tmp_path, nested):
    state = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    torch.save({"state_dict": state} if nested else state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        loaded = weights.load_state_dict(tmp_path / name)
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[key], state[key]) for key in state)
        assert weights.hash_tensors(loaded) == weights.hash_tensors(state)


class _Evil:
    def __reduce__(self):
        return os.mkdir, (self.path,)

    def __init__(self, path):
        self.path = path


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    torch.save({"a": _Evil(str(tmp_path / "executed"))}, tmp_path / "evil.pth")
    (tmp_path / "evil_plain.pth").write_bytes(pickle.dumps(_Evil(str(tmp_path / "executed"))))
    for name, what in (("evil.pth", r"more than tensors \(posix\.mkdir\)"), ("evil_plain.pth", "")):
        with pytest.raises(ValueError, match=rf"{what}.*could run code"):
            weights.load_state_dict(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_of_lightning_is_read_and_its_class_is_not(tmp_path):
    """Stable Diffusion 1 was published with the class of a callback as a key."""
    from pytorch_lightning.callbacks import ModelCheckpoint

    callbacks = {ModelCheckpoint: {"best_model_score": torch.tensor(1.0), "monitor": "val/loss"}}
    whole = {"state_dict": {"a": torch.ones(2)}, "callbacks": callbacks, "global_step": 470_000}
    torch.save(whole, tmp_path / "a.ckpt")
    assert list(weights.load_state_dict(tmp_path / "a.ckpt")) == ["a"]


CUT = "is damaged .*Fetch it again"
STRANGE = {
    "cut.pth": (b"PK\x03\x04 not a whole archive", CUT),
    "empty.pth": (b"", CUT),
    "text.pth": (b"hello, who is there?", "neither a safetensors nor a torch file"),
    "pickle.pth": (b"\x80\x04no", "is damaged, or no torch file.*safetensors version"),
    "cut.safetensors": (b"\x08", "is damaged: .*Fetch it again"),
    "pointer.ckpt": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "page.safetensors": (b"\n<!DOCTYPE html>", "a web page"),
    "pickle.safetensors": (b"PK\x03\x04", r"rename it to \.ckpt"),
    "tensors.ckpt": (b"\x02\0\0\0\0\0\0\0{}", r"rename it to \.safetensors"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_damaged_and_other_files_are_refused(tmp_path, name):
    content, message = STRANGE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)^{tmp_path / name} .*{message}"):
        weights.load_state_dict(tmp_path / name)


def test_a_header_of_any_length_is_a_header(tmp_path):
    """Its first byte may be one with which a pickle begins."""
    for length in (0x80, 0x4B50):
        header = b"{}".ljust(length)
        (tmp_path / "a.safetensors").write_bytes(length.to_bytes(8, "little") + header)
        assert weights.load_state_dict(tmp_path / "a.safetensors") == {}


def test_a_file_of_other_things_than_tensors_is_refused(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth is not a state dict"):
        weights.load_state_dict(tmp_path / "list.pth")


def test_the_hash_sees_names_types_and_values():
    base = {"a": torch.zeros(2)}
    others = [{"b": torch.zeros(2)}, {"a": torch.zeros(2).double()}, {"a": torch.tensor([0.0, 1])}]
    hashes = {weights.hash_tensors(state) for state in [base, *others, {"a": torch.zeros(2, 1)}]}
    assert len(hashes) == 5
