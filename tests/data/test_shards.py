"""Image shards: whole or absent, equal bytes for equal samples, random access, nothing trusted."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from torch.utils.data import DataLoader

from ldm.data.images import encode_png
from ldm.data.shards import PREPARING, ImageShards, write_shards
from ldm.data.source import Sample


def _samples(count: int = 20) -> list[Sample]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)
    return [
        Sample(f"k{i:03d}", pixels[i], f"caption {i}, “ü”", {"original_width": 16, "i": i})
        for i in range(count)
    ]


def _write(directory, samples=None, shard_bytes=6000):
    samples = _samples() if samples is None else samples
    return list(write_shards(samples, directory, shard_bytes=shard_bytes, settings={"a": 1}))


def _same(first: Sample, second: Sample) -> bool:
    return np.array_equal(first.image, second.image) and first[::2] == second[::2]


def test_round_trip_over_several_shards(tmp_path):
    assert _write(tmp_path) == list(range(1, 21))
    shards = ImageShards(tmp_path)
    assert len(shards) == 20 and len(list(tmp_path.glob("*.tar"))) > 2
    for i in (19, 0, 7, 7, 13):
        assert _same(shards[i], _samples()[i]) and shards[i].meta == _samples()[i].meta
    assert shards.captions == [sample.caption for sample in _samples()]
    assert shards.metas[3] == {"original_width": 16, "i": 3}
    assert shards.manifest.facts["num_samples"] == 20 and shards.manifest.settings == {"a": 1}
    assert not (tmp_path / PREPARING).exists()


def test_equal_samples_give_equal_bytes(tmp_path):
    _write(tmp_path / "a")
    _write(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves files to the collector
def test_webdataset_itself_reads_them(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    _write(tmp_path)
    urls = [str(path) for path in sorted(tmp_path.glob("*.tar"))]
    read = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in _samples()]
    assert read[4]["txt"].decode() == _samples()[4].caption


def test_worker_processes_read_the_same(tmp_path):
    _write(tmp_path)
    shards = ImageShards(tmp_path)
    assert _same(shards[0], _samples()[0])  # files open before the fork
    loader = DataLoader(shards, batch_size=None, num_workers=2)
    for found, expected in zip(loader, _samples(), strict=True):
        assert np.array_equal(np.asarray(found.image), expected.image)
    assert _same(pickle.loads(pickle.dumps(shards))[5], _samples()[5])


def test_an_interrupted_writing_leaves_nothing_and_can_be_repeated(tmp_path):
    def failing():
        yield from _samples()[:15]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "out", failing())
    assert not (tmp_path / "out").exists()
    half = write_shards(_samples(), tmp_path / "out", shard_bytes=6000, settings={})
    for _ in range(10):
        next(half)
    with pytest.raises(ValueError, match="unfinished"):
        ImageShards(tmp_path / "out")
    (tmp_path / "out" / "000000.tar").write_bytes(b"left by a kill while moving")
    _write(tmp_path / "out")
    assert len(ImageShards(tmp_path / "out")) == 20


@pytest.mark.parametrize("key", ["a.b", "k000"])
def test_keys_with_dots_or_twice_are_refused(tmp_path, key):
    samples = [*_samples(3), _samples(1)[0]._replace(key=key)]
    with pytest.raises(ValueError, match="key"):
        _write(tmp_path, samples)


def test_nothing_is_overwritten_and_nothing_is_not_enough(tmp_path):
    with pytest.raises(ValueError, match="no usable picture"):
        _write(tmp_path, [])
    _write(tmp_path)
    with pytest.raises(ValueError, match="holds .* shards already"):
        _write(tmp_path)
    assert len(ImageShards(tmp_path)) == 20


def test_a_missing_directory_names_the_command(tmp_path):
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ValueError, match="ldm prepare data=... out="):
            ImageShards(directory)


def test_a_truncated_shard_is_named(tmp_path):
    _write(tmp_path)
    path = tmp_path / "000001.tar"
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(ValueError, match="000001.tar has"):
        ImageShards(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="000001.tar is missing"):
        ImageShards(tmp_path)


def _foreign(path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("evil.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)


def test_shards_of_another_tool_are_indexed(tmp_path):
    png = [encode_png(sample.image) for sample in _samples(4)]
    _foreign(
        tmp_path / "00000.tar",
        [
            ("000000000.PNG", png[0]),
            ("000000000.txt", b"zero"),
            ("000000000.json", json.dumps({"url": "x"}).encode()),
            ("000000000.pkl", b"never opened"),
            ("sub.dir/1.png", png[1]),
            ("2.png", png[2]),
            ("2.png", png[0]),  # a duplicate: the first counts
            ("sub.dir/1.txt", b"one"),  # not adjacent
            ("lonely.txt", b"no picture"),
        ],
    )
    _foreign(tmp_path / "00001.tar", [("2.png", png[3])])
    for _ in range(2):  # built, then read from the index
        shards = ImageShards(tmp_path)
        assert shards.keys == ["000000000", "sub.dir/1", "2", "2"]
        assert shards.captions == ["zero", "one", "", ""]
        assert shards[0].meta == {"url": "x"} and shards[1].meta == {}
        for i in range(4):
            assert np.array_equal(shards[i].image, _samples(4)[i].image)
        assert (tmp_path / "index.json").is_file()
        assert shards.manifest.facts["num_samples"] == 4


@pytest.mark.parametrize("keep", [700, 1024, 5000])
def test_a_foreign_truncated_shard_is_named(tmp_path, keep):
    members = [(f"{i}.png", encode_png(sample.image)) for i, sample in enumerate(_samples(6))]
    _foreign(tmp_path / "00007.tar", members)
    data = (tmp_path / "00007.tar").read_bytes()
    (tmp_path / "00007.tar").write_bytes(data[:keep])
    with pytest.raises(ValueError, match="00007.tar is truncated"):
        ImageShards(tmp_path)


def test_a_damaged_picture_is_named(tmp_path):
    _foreign(tmp_path / "00000.tar", [("a.png", b"not a picture")])
    with pytest.raises(ValueError, match="00000.tar, sample 'a': not a picture"):
        ImageShards(tmp_path)[0]
