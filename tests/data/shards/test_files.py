"""Shards at a url: the samples of a local directory, from copies that are few, whole and shared."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ldm.data.batches import ImageBatches
from ldm.data.order import Slot, Streamed
from ldm.data.remote import LocalCopies
from ldm.data.shards.files import LocalFiles, RemoteFiles, shard_files
from ldm.data.shards.reader import ImageShards
from ldm.data.source import Sample
from tests.data.preparing.test_prepare import NoisySource, run
from tests.data.served import served


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Several small shards, and held-out ones."""
    root = tmp_path_factory.mktemp("prepared")
    list(run(NoisySource(), root))
    assert len(ImageShards(root)) > 20 and len(ImageShards(root).files) > 3
    return root


@pytest.fixture
def uploaded(prepared, tmp_path):
    """The same, to be damaged."""
    shutil.copytree(prepared, tmp_path / "uploaded")
    with served(tmp_path / "uploaded") as server:
        yield tmp_path / "uploaded", server


def copies(tmp_path: Path, max_bytes: int = 10**8) -> LocalCopies:
    return LocalCopies(tmp_path / "cache", max_bytes, attempts=1)


def cached_bytes(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in (tmp_path / "cache" / "files").iterdir())


def same(one: Sample, other: Sample) -> bool:
    return np.array_equal(one.image, other.image) and one[0::2] == other[0::2]


def slots(order: Streamed) -> list[Slot]:
    """All steps of a pass, each with its global batch of 4."""
    return [Slot(step, torch.arange(4 * step, 4 * step + 4)) for step in range(order.steps)]


def all_same(one: ImageShards, other: ImageShards) -> bool:
    return len(one) == len(other) and all(same(one[i], other[i]) for i in range(len(one)))


def test_samples_are_those_of_the_directory(prepared, tmp_path):
    local = ImageShards(prepared)
    with served(prepared) as server:
        shards = ImageShards(server.url + "/", copies(tmp_path))
        assert shards.root == server.url and shards.is_remote and not local.is_remote
        assert not any(name.endswith(".tar") for name in server.gets)
        assert shards.manifest == local.manifest
        assert shards.shard_counts.tolist() == local.shard_counts.tolist()
        assert np.array_equal(shards.sizes(), local.sizes())
        assert all_same(shards, local) and all_same(shards.held_out(), local.held_out())
        assert shards.held_out().held_out() is None
        assert all_same(ImageShards(server.url, copies(tmp_path)), local)  # at another start
        tars = {name: count for name, count in server.gets.items() if name.endswith(".tar")}
        assert set(tars.values()) == {1} and set(local.files) < set(tars)
        assert server.gets["index.npy"] == 1


def test_loader_processes_share_the_copies(prepared, tmp_path):
    local = ImageShards(prepared)
    with served(prepared) as server:
        shards = ImageShards(server.url, copies(tmp_path))
        loader = DataLoader(
            shards, batch_size=None, num_workers=2, multiprocessing_context="forkserver"
        )
        for found, expected in zip(loader, local, strict=False):
            assert np.array_equal(np.asarray(found.image), expected.image)
        data, before = pickle.dumps(shards), server.gets["index.json"]
        assert len(data) < 5000 and same(pickle.loads(data)[5], local[5])
        assert server.gets["index.json"] == before  # which a loader process does not ask for
        assert max(count for name, count in server.gets.items() if name.endswith(".tar")) == 1


def test_no_more_is_kept_than_has_room(prepared, tmp_path):
    local = ImageShards(prepared)
    sizes = [(prepared / name).stat().st_size for name in local.files]
    limit = 4 * max(sizes) + (prepared / "index.npy").stat().st_size
    assert limit < sum(sizes)
    order = Streamed(0, local.shard_counts, 4, 2)
    with served(prepared) as server:
        shards = ImageShards(server.url, copies(tmp_path, limit))
        one, other = (
            ImageBatches(s, order=order, size_px=8, flip=True, seed=0) for s in (shards, local)
        )
        for slot in slots(order):
            assert np.array_equal(one[slot].image, other[slot].image)
            assert cached_bytes(tmp_path) <= limit
        fetched = sum(server.gets[name] for name in local.files)
        assert fetched <= len(sizes) + order.lanes - 1  # two lanes meet inside of a shard
    with served(prepared) as server:
        shards = ImageShards(server.url, copies(tmp_path / "small", max(sizes) - 1))
        with pytest.raises(ValueError, match=r"no room for .*Type a data.cache_gb above that"):
            list(shards)


def test_a_server_that_is_gone_is_said_and_no_picture_is_bad(uploaded, tmp_path):
    _, server = uploaded
    shards = ImageShards(server.url, copies(tmp_path))
    order = Streamed(0, shards.shard_counts, 4, 1)
    batches = ImageBatches(shards, order=order, size_px=8, flip=False, seed=0)
    first, *others = slots(order)
    assert not batches[first].bad
    server.stop()
    with pytest.raises(ValueError, match=r"\.tar could not be fetched, .*Run the same command"):
        [batches[slot] for slot in others]
    with pytest.raises(ValueError, match=r"index\.json cannot be reached"):
        ImageShards(server.url, copies(tmp_path))
    with pytest.raises(ValueError, match=r"held_out/index\.json cannot be reached"):
        shards.held_out()


def test_what_is_not_as_the_index_records_is_refused(uploaded, tmp_path):
    directory, server = uploaded
    path = directory / "000001.tar"
    data = path.read_bytes()
    first = int(ImageShards(directory).shard_counts[0])
    for damaged, match in ((data[:-512], "bytes came instead of"), (data[::-1], "its sha256 is")):
        path.write_bytes(damaged)
        shards = ImageShards(server.url, copies(tmp_path))
        with pytest.raises(ValueError, match=rf"000001\.tar could not be fetched.*{match}"):
            shards[first]
    path.write_bytes(data)  # is uploaded again
    assert all_same(shards, ImageShards(directory))
    rows = directory / "index.npy"
    rows.write_bytes(rows.read_bytes()[:-60] + bytes(60))
    with pytest.raises(ValueError, match=r"index\.npy could not be fetched.*its sha256 is"):
        ImageShards(server.url, copies(tmp_path / "other"))


def test_what_is_no_prepared_directory_is_told_how_to_become_one(uploaded, tmp_path):
    directory, server = uploaded
    remedy = r"ldm prepare data=webdataset data\.path='http://.*/\{00000\.\.00099\}\.tar' out=DIR"
    manifest = (directory / "manifest.json").read_text()
    index = json.loads((directory / "index.json").read_text())
    for name, content, match in (
        ("manifest.json", None, "manifest.json does not exist"),
        ("manifest.json", "<html>", "manifest.json is not JSON"),
        ("manifest.json", "[1]", "manifest.json is not a manifest"),
        ("manifest.json", manifest.replace('"shards"', '"latents"'), "holds 'latents'"),
        ("index.json", None, "index.json does not exist"),
        ("index.json", '{"wids_version": 1}', "index.json is of another program"),
    ):
        kept = (directory / name).read_text()
        (directory / name).unlink()
        if content is not None:
            (directory / name).write_text(content)
        with pytest.raises(ValueError, match=f"{match}.*{remedy}"):
            ImageShards(server.url, copies(tmp_path))
        (directory / name).write_text(kept)
    for name in ("../000000.tar", "/etc/passwd", "x::pipe:ls", ".."):
        index["shards"][0]["file"] = name
        (directory / "index.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match="no file beside it"):
            ImageShards(server.url, copies(tmp_path))


@pytest.mark.parametrize(
    "root, match",
    [
        ("pipe:cat x", "never opened"),
        ("ssh://host/shards", "never opened"),
        ("https://h/a::pipe:ls", "url inside another"),
        ("ftp://host/shards", "begins with none of http://"),
        ("file:///nowhere", "begins with none of http://"),
    ],
)
def test_other_urls_are_not_opened(root, match):
    with pytest.raises(ValueError, match=match):
        ImageShards(root)


def test_a_directory_whose_name_looks_like_a_url_is_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s3:b").mkdir()
    assert isinstance(shard_files("s3:b"), LocalFiles)
    assert isinstance(shard_files("https://h/s3:b"), RemoteFiles)
