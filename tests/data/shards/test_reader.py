"""Image shards: random access, several captions, other tools' tars, nothing trusted."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from torch.utils.data import DataLoader

from ldm.data.arrays import encode_array
from ldm.data.images import encode_png
from ldm.data.shards.files import LocalFiles
from ldm.data.shards.index import index_shard
from ldm.data.shards.reader import ImageShards
from ldm.data.shards.verify import verify_shards
from ldm.data.source import Record, Sample
from tests.data.preparing.test_prepare import Listed, files, run


def _records(count: int = 20) -> list[Record]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)
    return [
        Record(f"k{i:03d}", pixels[i], (f"caption {i}, “ü”", "b", "c")[: i % 3 + 1], {"i": i})
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """20 samples, of which the last is held out, in several shards."""
    root = tmp_path_factory.mktemp("shards")
    records = [record._replace(split="train") for record in _records(19)]
    list(run(Listed([*records, _records()[19]._replace(split="held_out")]), root, size_px=16))
    return root


def _same(sample: Sample, record: Record) -> bool:
    meta = {**record.meta, "original_height": 16, "original_width": 16}
    return np.array_equal(sample.image, record.picture) and (
        sample.key,
        sample.captions,
        sample.meta,
    ) == (record.key, record.captions, meta)


def test_random_access_over_several_shards(directory):
    shards = ImageShards(directory)
    assert len(shards) == 19 and len(shards.files) > 2
    assert shards.shard_counts.sum() == 19 and len(shards.shard_counts) == len(shards.files)
    for i in (18, 0, 7, 7, 13):
        assert _same(shards[i], _records()[i]) and _same(shards.read(i, 8), _records()[i])
        assert shards.key(i) == f"k{i:03d}" and shards.captions(i) == _records()[i].captions
        assert shards.size(i) == (16, 16)
        assert shards.meta(i) == {"i": i, "original_height": 16, "original_width": 16}
    assert _same(shards[-1], _records()[18])
    assert shards.caption_counts.tolist() == [i % 3 + 1 for i in range(19)]
    captions = [record.captions[0] for record in _records(19)]
    assert list(shards.first_captions()) == captions
    assert list(shards.first_captions(3)) == captions[:3]
    with pytest.raises(IndexError):
        shards[19]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves files to the collector
def test_webdataset_itself_reads_them(directory):
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(directory.glob("*.tar"))]
    read = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [record.key for record in _records(19)]
    assert read[4]["txt"].decode() == _records()[4].captions[0]
    assert json.loads(read[4]["json"])["captions"] == list(_records()[4].captions)


def test_worker_processes_read_the_same(directory):
    shards = ImageShards(directory)
    assert _same(shards[0], _records()[0])  # files open before the fork
    loader = DataLoader(shards, batch_size=None, num_workers=2)
    for found, expected in zip(loader, _records(19), strict=True):
        assert np.array_equal(np.asarray(found.image), expected.picture)
    data = pickle.dumps(shards)
    assert len(data) < 5000 and _same(pickle.loads(data)[5], _records()[5])


def test_an_unfinished_or_missing_directory_names_the_command(tmp_path):
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ValueError, match=r"ldm prepare data=\.\.\. out="):
            ImageShards(directory)
    (tmp_path / ".preparing").mkdir()
    with pytest.raises(ValueError, match="unfinished"):
        ImageShards(tmp_path)


def _foreign(path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("evil.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)


def test_shards_of_another_tool_are_indexed(tmp_path):
    png = [encode_png(record.picture) for record in _records(4)]
    _foreign(
        tmp_path / "00000.tar",
        [
            ("000000000.PNG", png[0]),
            ("000000000.txt", b"zero"),
            ("000000000.json", json.dumps({"url": "x", "captions": 3}).encode()),
            ("000000000.pkl", b"never opened"),
            ("sub.dir/1.png", png[1]),
            ("2.png", png[2]),
            ("2.png", png[0]),  # a duplicate: the first counts
            ("sub.dir/1.txt", b"one"),  # not adjacent
            ("1.json", b"[1]"),  # no object: no metadata
            ("lonely.txt", b"no picture"),
        ],
    )
    _foreign(tmp_path / "00001.tar", [("2.png", png[3])])
    prints = set()
    for _ in range(2):  # built, then read from the index
        shards = ImageShards(tmp_path)
        assert [shards.key(i) for i in range(4)] == ["000000000", "sub.dir/1", "2", "2"]
        assert [shards.captions(i) for i in range(4)] == [("zero",), ("one",), ("",), ("",)]
        assert shards[0].meta == {"url": "x", "captions": 3} and shards[1].meta == {}
        for i in range(4):
            assert np.array_equal(shards[i].image, _records(4)[i].picture)
            assert shards.size(i) == (16, 16)
        assert (tmp_path / "index.json").is_file()
        assert shards.manifest.facts["num_samples"] == 4
        prints.add(shards.manifest.fingerprint)
    assert len(prints) == 1


def test_a_shard_that_is_added_is_seen_and_among_our_own_refused(tmp_path):
    png = [encode_png(record.picture) for record in _records(2)]
    _foreign(tmp_path / "foreign" / "1.tar", [("a.png", png[0])])
    before = ImageShards(tmp_path / "foreign")
    _foreign(tmp_path / "foreign" / "0.tar", [("b.png", png[1])])
    faults = verify_shards(LocalFiles(tmp_path / "foreign"), decode_all=True)
    assert [step.fault for step in faults if step.fault] == []
    for _ in range(2):
        shards = ImageShards(tmp_path / "foreign")
        assert [shards.key(i) for i in range(len(shards))] == ["b", "a"]
    assert shards.manifest.fingerprint != before.manifest.fingerprint
    list(run(Listed(_records(6)), tmp_path / "own"))
    _foreign(tmp_path / "own" / "9.tar", [("b.png", png[1])])
    with pytest.raises(ValueError, match="own/9.tar is none of the shards that were prepared"):
        ImageShards(tmp_path / "own")
    faults = verify_shards(LocalFiles(tmp_path / "own"), decode_all=False)
    assert [step.fault for step in faults if step.fault] == [
        f"{tmp_path}/own/9.tar: not in the index"
    ]


@pytest.mark.parametrize("keep", [700, 1024, 5000])
def test_a_foreign_truncated_shard_is_named(tmp_path, keep):
    members = [(f"{i}.png", encode_png(record.picture)) for i, record in enumerate(_records(6))]
    _foreign(tmp_path / "00007.tar", members)
    data = (tmp_path / "00007.tar").read_bytes()
    (tmp_path / "00007.tar").write_bytes(data[:keep])
    with pytest.raises(ValueError, match="00007.tar is truncated"):
        ImageShards(tmp_path)


def test_an_array_is_a_picture_only_where_there_is_no_other(tmp_path):
    png, array = encode_png(_records(1)[0].picture), b"array"
    members = [("a.npy", array), ("a.png", png), ("b.png", png), ("b.npy", array), ("c.npy", array)]
    _foreign(tmp_path / "0.tar", members)
    sizes = index_shard(tmp_path / "0.tar")["image"][:, 1]
    assert sizes.tolist() == [len(png), len(png), len(array)]


def test_a_damaged_picture_is_named(tmp_path):
    _foreign(tmp_path / "00000.tar", [("a.png", b"not a picture")])
    with pytest.raises(ValueError, match="00000.tar, sample 'a': not a picture"):
        ImageShards(tmp_path)[0]


def test_pictures_of_other_channels(tmp_path):
    grey = [record._replace(picture=record.picture[..., :1]) for record in _records(5)]
    list(run(Listed(grey), tmp_path / "grey", channels=1, size_px=16))
    shards = ImageShards(tmp_path / "grey")
    assert shards.channels == 1 and shards.size(0) == (16, 16)
    assert np.array_equal(shards[0].image, grey[shards[0].meta["i"]].picture)
    wide = np.random.default_rng(1).integers(0, 65536, (6, 16, 16, 5), np.uint16)
    records = [Record(f"{i}", encode_array(wide[i]), (), {"i": i}) for i in range(6)]
    list(run(Listed(records), tmp_path / "wide", channels=5, size_px=16))
    shards = ImageShards(tmp_path / "wide")
    sample = pickle.loads(pickle.dumps(shards))[2]
    assert sample.image.dtype == np.uint16 and sample.captions == ("",)
    assert np.array_equal(sample.image, wide[sample.meta["i"]])
    assert files(tmp_path / "wide")["held_out/index.json"]
