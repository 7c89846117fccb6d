"""Pretrained files are found, told apart, and named where they are missing."""

import hashlib
import os
from dataclasses import replace

import pytest

from ldm import weights
from ldm.weights import finding


@pytest.fixture
def known(monkeypatch):
    """The table gains two files, one of a network that has another beside it."""
    content = hashlib.sha256(b"weights").hexdigest()
    weights_file = replace(weights.TABLE["vgg16"].weights, path="net.pth", sha256=content)
    net = replace(weights.TABLE["vgg16"], name="net", files=(weights_file,))
    settings = replace(weights_file, path="pair/config.json", url="http://a/config", sha256=None)
    first = replace(weights_file, path="pair/model.safetensors", url="http://a/model")
    pair = replace(net, name="pair", files=(first, settings))
    monkeypatch.setitem(weights.TABLE, "net", net)
    monkeypatch.setitem(weights.TABLE, "pair", pair)
    return content


def test_a_missing_file_is_named_with_its_place_url_and_terms(tmp_path):
    with pytest.raises(ValueError) as error:
        weights.find("vgg16", tmp_path)
    said = str(error.value)
    assert f"{tmp_path / 'vgg16-397923af.pth'} (from https://download.pytorch.org/" in said
    assert "torchvision, VGG16 IMAGENET1K_V1; 553.4 MB" in said and "BSD-3-Clause" in said
    assert f"`ldm weights fetch vgg16 weights_dir={tmp_path}`" in said


def test_all_missing_files_of_a_network_are_named(tmp_path, known):
    with pytest.raises(
        ValueError,
        match=r"^model\.safetensors, config\.json are missing.*http://a/model.*http://a/config",
    ):
        weights.find("pair", tmp_path)
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair" / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"^config\.json is missing; .*pair/config\.json"):
        weights.find("pair", tmp_path)
    (tmp_path / "pair" / "config.json").write_bytes(b"{}")
    found = weights.find("pair", tmp_path)
    assert found.path == tmp_path / "pair" / "model.safetensors"
    assert found.protocol["weights_file"] == "pair/model.safetensors"
    with pytest.raises(ValueError, match="model.safetensors, config.json, .* are missing"):
        weights.find("clip-vit-large-patch14", tmp_path)  # a folder of the table


def test_no_folder_and_unknown_names_are_explained():
    with pytest.raises(ValueError, match="weights_dir=FOLDER"):
        weights.find("vgg16", None)
    with pytest.raises(ValueError, match="'vgg'.*vgg16, inception_fid"):
        weights.find("vgg", "anywhere")


def test_another_file_than_the_published_one_is_refused_unless_it_is_asked_for(tmp_path, known):
    (tmp_path / "net.pth").write_bytes(b"weights")
    found = weights.find("net", str(tmp_path))
    assert found == weights.FoundFile(tmp_path / "net.pth", known, published=True, file="net.pth")
    assert found == weights.find("net.pth", tmp_path)  # by its public name too
    assert found.protocol == {"weights_file": "net.pth", "weights_sha256": known}
    (tmp_path / "net.pth").write_bytes(b"other weights")
    with pytest.raises(ValueError, match=f"expected {known[:8]}.*allow_unknown_weights=true"):
        weights.find("net", tmp_path)
    unknown = weights.find("net", tmp_path, allow_unknown=True)
    assert not unknown.published and unknown.sha256 == hashlib.sha256(b"other weights").hexdigest()
    assert unknown.protocol["unpublished_weights"] == "net.pth"


def test_a_file_without_a_published_checksum_is_refused_unless_it_is_asked_for(tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(b"mine")
    with pytest.raises(weights.MissingWeights, match=r"No published .*allow_unknown_weights=true"):
        weights.find("mine.safetensors", tmp_path)
    found = weights.find("mine.safetensors", tmp_path, allow_unknown=True)
    assert not found.published and found.sha256 == hashlib.sha256(b"mine").hexdigest()
    assert found.protocol["unpublished_weights"] == "mine.safetensors"
    with pytest.raises(ValueError, match=r"other\.pth is missing.*`ldm weights list`"):
        weights.find("other.pth", tmp_path)


def test_a_file_that_did_not_change_is_read_once(tmp_path, known, monkeypatch):
    read = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: read.append(1) or real(*a))
    (tmp_path / "net.pth").write_bytes(b"weights")
    for _ in range(3):
        weights.find("net", tmp_path)
    assert len(read) == 1
    os.utime(tmp_path / "net.pth", ns=(1, 1))
    assert finding.sha256_of(tmp_path / "net.pth") == known and len(read) == 2


def test_the_table_is_consistent():
    for name, network in weights.TABLE.items():
        assert network.name == name and network.weights.sha256 and network.weights.num_bytes
        for file in network.files:
            assert file.url.startswith("https://") and file.url.endswith(file.path.split("/")[-1])
        digest = network.weights.path.rpartition("-")[2].partition(".")[0]
        if network.weights.path.endswith(f"-{digest}.pth"):  # by its publisher's custom
            assert network.weights.sha256.startswith(digest)
