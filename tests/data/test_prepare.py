"""Preparing: both splits, bad samples counted and bounded, finished work kept, changes refused."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ldm.data.prepare import Progress, prepare, prepared
from ldm.data.shards import ImageShards
from ldm.data.source import Bad, Sample


class _Source:
    """20 training and 5 held-out pictures, of which those in ``bad`` cannot be used."""

    def __init__(self, bad: tuple[int, ...] = (), seed: int = 0) -> None:
        self.bad, self.seed, self.read = bad, seed, 0

    def settings(self) -> dict[str, Any]:
        return {"source": "test", "seed": self.seed, "background": (1, 2, 3)}

    def splits(self) -> dict[str, int]:
        return {"train": 20, "held_out": 5}

    def samples(self, split: str) -> Iterator[Sample | Bad]:
        first = 0 if split == "train" else 20
        for i in range(first, first + self.splits()[split]):
            self.read += 1
            image = np.full((8, 8, 3), i, np.uint8)
            yield Bad(f"p{i}.png", "empty file") if i in self.bad else Sample(f"{i}", image, "", {})


def _prepare(source, directory, *, allowed=0.1, **settings) -> list[Progress]:
    return list(
        prepare(source, directory, shard_bytes=10**6, max_bad_fraction=allowed, settings=settings)
    )


def test_both_splits_and_the_bad_are_written(tmp_path):
    steps = _prepare(_Source(bad=(3, 21)), tmp_path)
    assert steps[-1] == Progress("train", 25, 25, 2) and len(steps) == 23
    train, held_out = ImageShards(tmp_path), ImageShards(tmp_path / "held_out")
    assert len(train) == 19 and len(held_out) == 4
    assert train.manifest.facts["bad"] == {"empty file": 1}
    assert train.manifest.settings["source"] == "test"
    lines = [json.loads(x) for x in (tmp_path / "bad_samples.jsonl").read_text().splitlines()]
    assert lines == [
        {"split": "held_out", "key": "p21.png", "reason": "empty file"},
        {"split": "train", "key": "p3.png", "reason": "empty file"},
    ]
    assert train.manifest.fingerprint != held_out.manifest.fingerprint


def test_finished_work_is_kept_and_a_difference_refused(tmp_path):
    _prepare(_Source(), tmp_path, note=1)
    assert not (tmp_path / "bad_samples.jsonl").exists()
    again = _Source()
    assert _prepare(again, tmp_path, note=1) == [] and again.read == 0
    assert prepared(again, tmp_path, {"note": 1}) is not None
    assert prepared(again, tmp_path / "elsewhere", {}) is None
    with pytest.raises(ValueError, match="seed was 0 and is 1.*out=DIR"):
        prepare(_Source(seed=1), tmp_path, shard_bytes=1, max_bad_fraction=0, settings={"note": 1})
    with pytest.raises(ValueError, match="input pictures have changed"):
        _prepare(_Source(), tmp_path, note=1, input="other")


def test_too_many_bad_samples_stop_with_counts_and_leave_only_their_list(tmp_path):
    source = _Source(bad=(2, 4, 6, 21))
    with pytest.raises(ValueError, match="3 of the first 10 pictures .*3 x empty file.*p21.png"):
        _prepare(source, tmp_path)
    assert source.read == 10
    assert [path.name for path in tmp_path.iterdir()] == ["bad_samples.jsonl"]
    _prepare(source, tmp_path, allowed=0.2)
    assert len(ImageShards(tmp_path)) == 17


def test_a_split_without_a_usable_picture_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="'held_out'.*5 x empty file"):
        _prepare(_Source(bad=(20, 21, 22, 23, 24)), tmp_path, allowed=0.9)
    assert not list(tmp_path.glob("**/*.tar"))


def test_an_interrupted_preparation_is_begun_anew(tmp_path):
    for stop_after in (2, 7, 24):
        steps = prepare(_Source(), tmp_path, shard_bytes=10**6, max_bad_fraction=0.0, settings={})
        for _ in range(stop_after):
            next(steps)
        steps.close()
        assert not list(tmp_path.glob("**/*.tar"))
    _prepare(_Source(), tmp_path)
    (tmp_path / ".preparing").mkdir()  # killed at the very last moment
    assert len(_prepare(_Source(), tmp_path)) == 25
    assert len(ImageShards(tmp_path)) == 20 and len(ImageShards(tmp_path / "held_out")) == 5


def test_what_others_keep_in_the_directory_is_left_alone(tmp_path):
    (tmp_path / "00000.tar").write_bytes(b"mine")
    with pytest.raises(ValueError, match="another tool"):
        _prepare(_Source(), tmp_path)
    assert (tmp_path / "00000.tar").read_bytes() == b"mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        _prepare(_Source(), tmp_path / "file")
