"""Preparing: bad samples counted and bounded; stopped anywhere it goes on, to the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm.data.preparing import processes
from ldm.data.preparing.picture_rules import PictureRules
from ldm.data.preparing.prepare import Preparing, Progress, prepare, prepared
from ldm.data.shards.reader import ImageShards
from ldm.data.source import Bad, Part, Record

RULES = {
    "size_px": 8, "square": True, "encoding": "png", "channels": 3, "background": [0, 0, 0],
    "max_pixels": 10**6, "min_size_px": 0, "max_aspect_ratio": None, "min_caption_chars": 0,
    "max_caption_chars": None, "where": None,
}  # fmt: skip
PREPARING = {
    "held_out_fraction": 0.25, "duplicates": "report", "max_bad_fraction": 0.1, "shard_mb": 0.008,
}  # fmt: skip


class NoisySource:
    """40 pictures of noise in parts of 6; those in ``bad`` cannot be used."""

    def __init__(self, bad=(), counted=True, delay=0.0, **settings: Any) -> None:
        self.bad, self.counted, self.delay, self.more = bad, counted, delay, settings
        self.num_read = 0

    def settings(self) -> dict[str, Any]:
        return {"source": "noise", "background": (1, 2), **self.more}

    def parts(self) -> list[Part]:
        starts = range(0, 40, 6)
        return [Part(start, min(6, 40 - start) if self.counted else None) for start in starts]

    def read(self, part: Part) -> Iterator[Record | Bad]:
        for i in range(part.where, min(part.where + 6, 40)):
            self.num_read += 1
            time.sleep(self.delay)
            if i in self.bad:
                yield Bad(f"p{i}.png", "empty file")
            else:
                yield self.record(i)

    def record(self, i: int) -> Record:
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        return Record(f"{i:02d}.png", pixels, (f"noise {i}",), {"i": i})


class Listed(NoisySource):
    """The records given, in parts of three."""

    def __init__(self, records: list[Record]) -> None:
        super().__init__()
        self.records = records

    def parts(self) -> list[Part]:
        return [Part(start, None) for start in range(0, len(self.records), 3)]

    def read(self, part: Part) -> Iterator[Record | Bad]:
        yield from self.records[part.where : part.where + 3]


def run(source, directory, *, num_processes=1, **changes) -> Iterator[Progress]:
    rules = PictureRules(**RULES | {k: v for k, v in changes.items() if k in RULES})
    preparing = Preparing(**PREPARING | {k: v for k, v in changes.items() if k in PREPARING})
    return prepare(source, rules, preparing, directory, processes=num_processes)


def files(directory: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_splits_and_the_bad_are_written(tmp_path):
    steps = list(run(NoisySource(bad=(3, 21)), tmp_path))
    assert steps[-1] == Progress("join", 38, 38, 2)
    done = [step.done for step in steps if step.step == "prepare"]
    assert done == sorted(done) and done[-1] == 40
    train, held_out = ImageShards(tmp_path), ImageShards(tmp_path / "held_out")
    assert len(train) + len(held_out) == 38 and 3 <= len(held_out) <= 17
    assert len(train.files) > 2
    for shards in (train, held_out):
        for i in range(len(shards)):
            sample = shards[i]
            record = NoisySource().record(sample.meta["i"])
            assert np.array_equal(sample.image, record.picture)
            assert sample.captions == record.captions
            assert sample.meta == {"i": sample.meta["i"], "original_height": 8, "original_width": 8}
    order = [train.meta(i)["i"] for i in range(len(train))]
    assert order == sorted(order)
    assert train.manifest.facts["bad"] == {"empty file": 2}
    assert train.manifest.settings["source"] == "noise"
    assert train.manifest.settings["size_px"] == 8
    assert lines(tmp_path / "bad_samples.jsonl") == [
        {"key": "p3.png", "reason": "empty file", "is_filtered": False},
        {"key": "p21.png", "reason": "empty file", "is_filtered": False},
    ]
    assert train.manifest.fingerprint != held_out.manifest.fingerprint
    assert not (tmp_path / ".preparing").exists()


def test_finished_work_is_kept_and_a_difference_refused(tmp_path):
    list(run(NoisySource(note=1), tmp_path))
    assert not (tmp_path / "bad_samples.jsonl").exists()
    before, again = files(tmp_path), NoisySource(note=1)
    assert list(run(again, tmp_path)) == [] and again.num_read == 0
    (tmp_path / ".preparing").mkdir()  # killed at the very last moment
    assert len(ImageShards(tmp_path)) > 20
    assert list(run(again, tmp_path)) == [] and files(tmp_path) == before
    assert not (tmp_path / ".preparing").exists()
    args = PictureRules(**RULES), Preparing(**PREPARING)
    assert prepared(again, *args, tmp_path) is not None
    assert prepared(again, *args, tmp_path / "elsewhere") is None
    with pytest.raises(ValueError, match="note was 1 and is 2.*out=DIR"):
        run(NoisySource(note=2), tmp_path)
    with pytest.raises(ValueError, match="encoding was 'png' and is 'jpeg'"):
        run(NoisySource(note=1), tmp_path, encoding="jpeg")
    with pytest.raises(ValueError, match="input pictures have changed"):
        run(NoisySource(note=1, input="other"), tmp_path)


def test_stopped_at_any_step_it_goes_on_to_the_same_bytes(tmp_path):
    source = {"bad": (3, 21), "input": "one"}
    num_steps = len(list(run(NoisySource(**source), tmp_path / "whole")))
    whole = files(tmp_path / "whole")
    for stop in (1, 20, 47, num_steps - 3, num_steps - 1):
        directory = tmp_path / f"{stop}"
        steps = run(NoisySource(**source), directory)
        for _ in range(stop):
            next(steps)
        steps.close()
        with pytest.raises(ValueError, match="unfinished"):
            ImageShards(directory)
        again = NoisySource(**source)
        list(run(again, directory))
        assert again.num_read <= max(0, 40 - 6 * (stop // 7) + 6)
        assert files(directory) == whole, stop
    many = tmp_path / "many"  # and once with a stop after every piece and every shard
    for _ in range(16):
        steps = run(NoisySource(**source), many)
        for number, step in enumerate(steps):
            if (step.step == "join" and step.done > 30) or number == 7:
                break
        steps.close()
    list(run(NoisySource(**source), many))
    assert files(many) == whole


def test_an_unfinished_preparation_keeps_its_settings_unless_the_pictures_change(tmp_path):
    steps = run(NoisySource(input="one"), tmp_path)
    assert next(step for step in steps if step.step == "join").done > 2
    with pytest.raises(ValueError, match="being prepared by another process"):
        next(run(NoisySource(input="one"), tmp_path))
    steps.close()
    assert (tmp_path / "held_out" / "000000.tar").exists()
    with pytest.raises(ValueError, match="unfinished preparation: shard_mb was 0.008 and is 1"):
        run(NoisySource(input="one"), tmp_path, shard_mb=1)
    list(run(NoisySource(input="two"), tmp_path))
    half = tmp_path.with_name("half")
    next(step for step in run(NoisySource(input="one"), half) if step.done > 12)
    (half / ".preparing" / "plan.json").unlink()
    list(run(NoisySource(input="two"), half))
    assert files(tmp_path) == files(half)
    list(run(NoisySource(input="two"), tmp_path.with_name("other")))
    assert files(tmp_path) == files(tmp_path.with_name("other"))


@pytest.mark.parametrize("split", ["", "held_out"])
def test_a_shard_that_is_gone_is_named_and_not_called_prepared(tmp_path, split):
    list(run(NoisySource(), tmp_path))
    (tmp_path / split / "000000.tar").unlink()
    with pytest.raises(ValueError, match=f"{split}/000000.tar is missing"):
        run(NoisySource(), tmp_path)


def test_a_second_start_leaves_the_work_of_a_running_one_alone(tmp_path):
    running = run(NoisySource(input="one"), tmp_path)
    assert next(step for step in running if step.step == "join").done > 2
    before = files(tmp_path)
    with pytest.raises(ValueError, match="being prepared by another process"):
        next(run(NoisySource(input="two"), tmp_path))
    assert files(tmp_path) == before
    late = run(NoisySource(input="one"), tmp_path)  # called now, and begun when the other is done
    list(running)
    whole = files(tmp_path)
    assert list(late) == [] and files(tmp_path) == whole and ".lock" not in whole


def test_several_processes_give_the_same_bytes(tmp_path, monkeypatch):
    list(run(NoisySource(bad=(3,)), tmp_path / "one"))
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.0)
    steps = list(run(NoisySource(bad=(3,), counted=False), tmp_path / "two", num_processes=2))
    assert steps[-1] == Progress("join", 39, 39, 1) and steps[0].total is None
    assert files(tmp_path / "one") == files(tmp_path / "two")
    # The other processes' errors are told here, and what was finished before is kept.
    with pytest.raises(ValueError, match="3 of the first 18"):
        list(run(NoisySource(bad=(0, 7, 13)), tmp_path / "bad", num_processes=2,
                 max_bad_fraction=0.05))  # fmt: skip
    assert list((tmp_path / "bad").rglob("000002.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_killed_at_any_time_it_goes_on_to_the_same_bytes(tmp_path, num_processes):
    program = (
        "import sys; from tests.data.preparing.test_prepare import NoisySource, run\n"
        "from ldm.data.preparing import processes; processes.PATIENCE_SECONDS = 0.2\n"
        "if __name__ == '__main__':\n"
        "    for step in run(NoisySource(delay=0.02, counted=False), sys.argv[1],\n"
        "                    num_processes=int(sys.argv[2]), shard_mb=0.005):\n"
        "        print(step, flush=True)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, str(script), str(tmp_path / "out"), str(num_processes)]
    list(run(NoisySource(), tmp_path / "whole", shard_mb=0.005))
    kills = 0
    while not (tmp_path / "out" / "manifest.json").exists():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        for seen, _ in enumerate(process.stdout):
            if seen == 5 + kills:  # ever later, or it would never end
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        process.stdout.close()
        assert process.wait() in (0, -signal.SIGKILL)
    assert kills > 3
    list(run(NoisySource(), tmp_path / "out", shard_mb=0.005))
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_too_many_bad_samples_stop_with_counts_and_the_rest_is_kept(tmp_path):
    source = NoisySource(bad=(2, 4, 6, 7, 21))
    with pytest.raises(ValueError, match="5 of the first 24 .*5 x empty file.*p2.png, p4.*=0.1"):
        list(run(source, tmp_path))
    assert source.num_read == 24
    assert len(lines(tmp_path / "bad_samples.jsonl")) == 5
    again = NoisySource(bad=(2, 4, 6, 7, 21))
    list(run(again, tmp_path, max_bad_fraction=0.2))
    assert again.num_read == 16
    assert len(ImageShards(tmp_path)) + len(ImageShards(tmp_path / "held_out")) == 35


def test_where_the_total_is_unknown_the_share_is_judged_at_the_end(tmp_path):
    with pytest.raises(ValueError, match="2 of the first 40 pictures .of 40. cannot"):
        list(run(NoisySource(bad=(0, 1), counted=False), tmp_path, max_bad_fraction=0.04))
    list(run(NoisySource(bad=(0, 1), counted=False), tmp_path, max_bad_fraction=0.05))


def test_what_is_filtered_is_listed_and_is_no_fault(tmp_path):
    where = {"i": list(range(10))}
    list(run(NoisySource(bad=(1,)), tmp_path, where=where, max_bad_fraction=0.03))
    facts = ImageShards(tmp_path).manifest.facts
    assert facts["filtered"] == {"i is none of data.where.i": 30}
    assert facts["bad"] == {"empty file": 1}
    assert len(lines(tmp_path / "bad_samples.jsonl")) == 31


def test_where_only_filters_left_nothing_nobody_is_told_to_mend(tmp_path):
    match = "40 x no column license, so none of .*left out on request, so ask for less"
    with pytest.raises(ValueError, match=match):
        list(run(NoisySource(), tmp_path / "a", where={"license": ["cc0"]}))
    with pytest.raises(ValueError, match="1 x empty file.*mend those"):
        list(run(NoisySource(bad=(1,)), tmp_path / "b", where={"i": [1, 2]}))


def test_the_split_is_by_the_hash_of_the_key_and_no_split_is_empty(tmp_path):
    list(run(NoisySource(), tmp_path / "a"))
    held_out = ImageShards(tmp_path / "a" / "held_out")
    names = {held_out.meta(i)["i"] for i in range(len(held_out))}
    records = [NoisySource().record(i) for i in range(39, 10, -1)]
    list(run(Listed(records), tmp_path / "b"))
    again = ImageShards(tmp_path / "b" / "held_out")
    assert {again.meta(i)["i"] for i in range(len(again))} == {i for i in names if i > 10}
    for fraction, counts in ((1e-9, (39, 1)), (1 - 1e-9, (1, 39))):
        directory = tmp_path / str(fraction)
        list(run(NoisySource(), directory, held_out_fraction=fraction))
        found = len(ImageShards(directory)), len(ImageShards(directory / "held_out"))
        assert found == (counts[0], counts[1])
    with pytest.raises(ValueError, match="data.held_out_fraction=0.05"):
        list(run(NoisySource(), tmp_path / "c", held_out_fraction=None))


def test_too_few_usable_pictures_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"1 usable pictures .*\(39 x empty file"):
        list(run(NoisySource(bad=range(1, 40)), tmp_path, max_bad_fraction=1.0))
    assert len(lines(tmp_path / "bad_samples.jsonl")) == 39


def test_keys_are_made_safe_and_stay_unique(tmp_path):
    keys = ["a", "sub/a.png", "sub_a.png", "ü" * 90, "x" * 64, "x" * 65, "\udcff.png", "a", "a"]
    pixels = NoisySource().record
    records = [pixels(i)._replace(key=key) for i, key in enumerate(keys)]
    list(run(Listed(records), tmp_path, max_bad_fraction=0.5))
    train, held_out = ImageShards(tmp_path), ImageShards(tmp_path / "held_out")
    found = [shards.key(i) for shards in (train, held_out) for i in range(len(shards))]
    assert len({*found}) == len(found) == 7
    assert {"a", "x" * 64} < {*found} and "\udcff" not in "".join(found)
    assert sum(key.startswith("sub_a-") for key in found) == 2
    assert all(len(key) <= 64 and "." not in key and "/" not in key for key in found)
    assert train.manifest.facts["bad"] == {"duplicate key": 2}
    assert [line["key"] for line in lines(tmp_path / "bad_samples.jsonl")] == ["a", "a"]


def test_duplicates_are_named_and_can_be_left_out(tmp_path):
    records = [NoisySource().record(i)._replace(split="train") for i in range(8)]
    brighter = (records[2].picture // 2 + 64).astype(np.uint8)
    records += [
        records[1]._replace(key="twin", split="held_out"),
        records[2]._replace(key="like", picture=brighter),
        records[3]._replace(key="other"),
    ]
    named = [
        {"key": "01-6ba9fc6e7b", "of": "twin", "kind": "exact", "split": "train",
         "split_of": "held_out"},
        {"key": "like", "of": "02", "kind": "near", "split": "train", "split_of": "train"},
        {"key": "other", "of": "03", "kind": "exact", "split": "train", "split_of": "train"},
    ]  # fmt: skip
    for kind, left in (("report", 10), ("exact", 8), ("near", 7)):
        directory = tmp_path / kind
        list(run(Listed(records), directory, duplicates=kind))
        found = lines(directory / "duplicates.jsonl")
        for line, expected in zip(found, named, strict=True):
            assert {**line, "of": line["of"].partition("-")[0], "key": expected["key"]} == expected
        train, held_out = ImageShards(directory), ImageShards(directory / "held_out")
        assert (len(train), len(held_out)) == (left, 1)
        facts = train.manifest.facts["duplicates"]
        assert facts == {"exact": 2, "near": 1, "across_splits": 1, "left_out": 10 - left}
    list(run(Listed(records), tmp_path / "none", duplicates=None))
    assert not (tmp_path / "none" / "duplicates.jsonl").exists()


def test_what_others_keep_in_the_directory_is_left_alone(tmp_path):
    (tmp_path / "00000.tar").write_bytes(b"mine")
    with pytest.raises(ValueError, match="another tool"):
        run(NoisySource(), tmp_path)
    assert (tmp_path / "00000.tar").read_bytes() == b"mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        run(NoisySource(), tmp_path / "file")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"held_out_fraction": 0.0}, "between 0 and 1"),
        ({"duplicates": "all"}, "allowed: report, exact, near, null"),
        ({"max_bad_fraction": 2.0}, "share from 0 to 1"),
        ({"shard_mb": 0}, "at least 0.001"),
        ({"shard_mb": 1e-9}, "at least 0.001"),
        ({"shard_mb": float("nan")}, "at least 0.001"),
    ],
)
def test_mistakes_are_explained(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(NoisySource(), tmp_path, **changes)
