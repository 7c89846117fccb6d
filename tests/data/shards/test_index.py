"""The index of shards: opened at once at any size, told apart from others', checked."""

import json
import time
import tracemalloc

import numpy as np
import pytest

from ldm.data.shards.index import ROW, index_shard, open_index, write_index
from ldm.data.shards.reader import ImageShards
from ldm.manifest import fingerprint
from tests.data.preparing.test_prepare import NoisySource, run


@pytest.fixture
def shards(tmp_path):
    list(run(NoisySource(), tmp_path))
    return tmp_path


def test_it_says_what_walking_the_tar_finds(shards):
    index = open_index(shards)
    assert isinstance(index.rows, np.memmap)
    found = np.concatenate([index_shard(shards / shard["file"]) for shard in index.shards])
    for part in ("image", "txt", "json"):
        assert np.array_equal(index.rows[part], found[part])
    assert set(index.rows["height"].tolist()) == set(index.rows["width"].tolist()) == {8}


def test_a_million_samples_open_at_once(tmp_path):
    count, per_shard = 10**6, 10**4
    rows = np.zeros(per_shard, ROW)
    rows["captions"] = 1
    names = [f"{i:06d}.tar" for i in range(count // per_shard)]
    for name in names:
        (tmp_path / name).touch()
    entries = [{"file": n, "bytes": 0, "sha256": "", "samples": per_shard} for n in names]
    write_index(tmp_path, entries, (rows for _ in names))
    tracemalloc.start()
    begun = time.perf_counter()
    shards = ImageShards(tmp_path)
    seconds, memory = time.perf_counter() - begun, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(shards) == count and shards.caption_counts.shape == (count,)
    assert seconds < 0.5 and memory < 2**20


@pytest.mark.parametrize("bytes_off", [-700, None])
def test_a_truncated_or_missing_shard_is_named(shards, bytes_off):
    path = shards / "000001.tar"
    data = path.read_bytes()
    path.unlink()
    if bytes_off is not None:
        path.write_bytes(data[:bytes_off])
    match = "000001.tar is missing" if bytes_off is None else "000001.tar has"
    with pytest.raises(ValueError, match=match):
        open_index(shards)


def test_an_index_that_does_not_fit_its_rows_is_refused(shards):
    np.save(shards / "index.npy", np.zeros(3, ROW))
    with pytest.raises(ValueError, match=r"index.npy does not fit .*index.json"):
        open_index(shards)


def test_the_index_of_an_earlier_version_is_made_again_and_that_of_others_left(shards):
    before = open_index(shards).rows["image"].tolist()
    for content, is_replaced in (([{"file": "000000.tar"}], True), ({"wids_version": 1}, False)):
        (shards / "index.json").write_text(json.dumps(content))
        (shards / "index.npy").unlink()
        assert open_index(shards).rows["image"].tolist() == before
        found = json.loads((shards / "index.json").read_text())
        assert (found != content) is is_replaced
    assert len(ImageShards(shards).manifest.fingerprint) == len(fingerprint(0))
