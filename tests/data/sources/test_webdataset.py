"""Webdataset shards as they are written, and as they are found after years on disks."""

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from ldm.data.source import Bad, Record
from ldm.data.sources.webdataset import WebdatasetSource


def _picture(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), color).save(buffer, "PNG")
    return buffer.getvalue()


def _tar(members: list[tuple[str, bytes]], *infos: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in infos:
            tar.addfile(info)
    return buffer.getvalue()


def _source(path, **changes) -> WebdatasetSource:
    defaults = {"captions": ["txt"], "schemes": [], "cache_dir": None, "cache_gb": 1.0}
    return WebdatasetSource(path=path, **{**defaults, **changes})


def _read(path, **changes) -> tuple[dict[str, Record], list[tuple[str, str]]]:
    """Records by key, and (key, reason) of the bad."""
    source = _source(path, **changes)
    items = [item for part in source.parts() for item in source.read(part)]
    bad = [(item.key, item.reason) for item in items if isinstance(item, Bad)]
    return {item.key: item for item in items if isinstance(item, Record)}, bad


def test_shards_as_img2dataset_writes_them(tmp_path):
    columns = {
        "caption": "a cat",
        "url": "http://x/cat.jpg",
        "key": "000000012",
        "status": "success",
        "error_message": None,
        "width": 256,
        "height": 256,
        "original_width": 1024,
        "original_height": 768,
        "similarity": float("nan"),
        "exif": "{}",
        "tags": ["no", "single", "value"],
    }
    members = [
        ("000000012.jpg", _picture()),
        ("000000012.json", json.dumps(columns).encode()),
        ("000000012.txt", b"\xef\xbb\xbfa cat"),
    ]
    (tmp_path / "00000.tar").write_bytes(_tar(members))
    (tmp_path / "00000_stats.json").write_text("{}")
    (tmp_path / "00000.parquet").write_text("")
    records, bad = _read(str(tmp_path))
    record = records["000000012"]
    assert not bad and record.picture == _picture() and record.captions == ("a cat",)
    assert record.meta == {**{k: v for k, v in columns.items() if k != "tags"}, "similarity": None}
    assert record.split is None


def test_captions_from_columns_and_lists(tmp_path):
    columns = {"caption": "one", "alt_text": ["two", None, "three"], "number": 3}
    pair = [("a.png", _picture()), ("a.json", json.dumps(columns).encode()), ("a.txt", b"zero")]
    (tmp_path / "0.tar").write_bytes(_tar(pair))
    for chosen, captions in {
        ("caption", "alt_text"): ("one", "two", "three"),
        ("alt_text", "txt"): ("two", "three", "zero"),
        ("gone", "caption"): ("one",),
        (): (),
    }.items():
        records, _ = _read(str(tmp_path), captions=chosen)
        assert records["a"].captions == captions and not {*chosen} & {*records["a"].meta}
    for chosen, reason in {"gone": "missing caption", "number": "caption is no text"}.items():
        assert _read(str(tmp_path), captions=[chosen]) == ({}, [("a", reason)])


def test_members_that_do_not_stand_together_are_joined(tmp_path):
    names = [f"dir/{n}" for n in range(3)]
    members = [(f"{n}.JPG", _picture()) for n in names] + [(f"{n}.txt", n.encode()) for n in names]
    (tmp_path / "0.tar").write_bytes(_tar(members))
    records, bad = _read(str(tmp_path))
    assert {key: record.captions for key, record in records.items()} == {n: (n,) for n in names}
    assert not bad


def test_a_key_ends_at_the_first_dot(tmp_path):
    members = [
        ("v1.0/cat.final.jpg", _picture()),
        ("v1.0/cat.final.txt", b"a cat"),
        ("dog.jpg", _picture("blue")),
        ("dog.mask.png", _picture()),
        ("dog.txt", b"a dog"),
        ("img.1.jpg", _picture()),
        ("img.2.jpg", _picture()),
        ("img.txt", b"two"),
    ]
    (tmp_path / "0.tar").write_bytes(_tar(members))
    records, bad = _read(str(tmp_path))
    assert set(records) == {"v1.0/cat", "dog"} and records["dog"].picture == _picture("blue")
    assert bad == [("img", "several pictures")]


def test_plain_endings_count_before_longer_ones(tmp_path):
    """And an array is a picture only where there is no other, as in folders."""
    members = [
        ("a.png", _picture()),
        ("a.npy", b"features"),
        ("a.txt", b"a cat"),
        ("a.tags.txt", b"1girl, outdoors"),
        ("a.json", b'{"width": 1}'),
        ("a.scores.json", b'{"width": 2}'),
        ("b.npy", b"array"),
        ("b.caption.txt", b"the only one"),
        ("c.png", _picture()),
        ("c.one.txt", b"which"),
        ("c.two.txt", b"of them"),
    ]
    (tmp_path / "0.tar").write_bytes(_tar(members))
    records, bad = _read(str(tmp_path))
    assert records["a"] == Record("a", _picture(), ("a cat",), {"width": 1})
    assert records["b"] == Record("b", b"array", ("the only one",), {})
    assert set(records) == {"a", "b"} and bad == [("c", "missing caption")]


def test_of_a_key_that_comes_again_the_first_counts(tmp_path):
    members = [("a.png", _picture()), ("a.txt", b"first"), ("b.png", _picture()), ("b.txt", b"b")]
    members += [("a.png", _picture("blue")), ("a.txt", b"second")]
    (tmp_path / "0.tar").write_bytes(_tar(members))
    records, bad = _read(str(tmp_path))
    assert records["a"].captions == ("first",) and records["a"].picture == _picture()
    assert set(records) == {"a", "b"} and bad == [("a", "duplicate key")]


def test_what_is_missing_or_no_text_is_named(tmp_path):
    members = [
        ("alone.png", _picture()),
        ("text.txt", b"no picture"),
        ("json.png", _picture()),
        ("json.txt", b"x"),
        ("json.json", b"{oops"),
        ("list.png", _picture()),
        ("list.txt", b"x"),
        ("list.json", b"[1]"),
        ("deep.png", _picture()),
        ("deep.json", b"[" * 100_000),
        ("long.png", _picture()),
        ("long.txt", b"x" * ((1 << 20) + 1)),
        ("bytes.png", _picture()),
        ("bytes.txt", b"\xff\xfe"),
    ]
    (tmp_path / "0.tar").write_bytes(_tar(members))
    records, bad = _read(str(tmp_path))
    assert records["bytes"].captions == ("\udcff\udcfe",)  # refused by the rules for captions
    assert dict(bad) == {
        "alone": "missing caption",
        "text": "no picture",
        "json": "metadata is not JSON",
        "list": "metadata is no JSON object",
        "deep": "metadata is not JSON",
        "long": "text above 1 MB",
    }


def test_links_devices_and_names_that_lead_out_are_not_there(tmp_path):
    infos = []
    for name, kind in {"l.png": tarfile.SYMTYPE, "h.png": tarfile.LNKTYPE, "f.png": b"6"}.items():
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "good.png"
        infos.append(info)
    members = [(name, _picture()) for name in ("/abs.png", "../up.png", "a/../b.png", "good.png")]
    members += [("good.txt", b"good"), ("good.pyd", pickle.dumps(print)), ("noending", b"")]
    (tmp_path / "0.tar").write_bytes(_tar(members, *infos))
    records, bad = _read(str(tmp_path))
    assert set(records) == {"good"} and not bad


def _pairs(count: int) -> bytes:
    pairs = [[(f"{n}.png", _picture()), (f"{n}.txt", b"x")] for n in range(count)]
    return _tar([member for pair in pairs for member in pair])


@pytest.mark.parametrize(
    "cut, whole",
    [
        (20 * 512, 5),  # between two samples
        (18 * 512 + 100, 4),  # inside a header
        (17 * 512 + 60, 4),  # inside a picture
        (19 * 512 + 1, 5),  # after the last byte of a member, before the end of its block
    ],
)
def test_of_a_truncated_tar_what_is_before_the_cut_is_used(tmp_path, cut, whole):
    data = _pairs(8)
    assert data[4 * 512 : 4 * 512 + 5] == b"1.png"  # a sample is four blocks
    (tmp_path / "0.tar").write_bytes(data[:cut])
    records, bad = _read(str(tmp_path))
    assert set(records) == {str(n) for n in range(whole)}
    assert bad[-1] == (str(tmp_path / "0.tar"), "truncated or damaged tar")
    assert {reason for _, reason in bad[:-1]} <= {"missing caption"}


def test_a_damaged_header_is_named_and_the_rest_is_not_taken_for_the_end(tmp_path):
    data = bytearray(_pairs(8))
    data[8 * 512 + 3] ^= 255
    (tmp_path / "0.tar").write_bytes(data)
    records, bad = _read(str(tmp_path))
    assert set(records) == {"0", "1"} and [reason for _, reason in bad] == [
        "truncated or damaged tar"
    ]


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, b"<html>404</html>"])
def test_what_is_no_tar_is_named(tmp_path, data):
    (tmp_path / "0.tar").write_bytes(data)
    assert _read(str(tmp_path)) == ({}, [(str(tmp_path / "0.tar"), "truncated or damaged tar")])


@pytest.mark.parametrize("name", ["0.tar.gz", "0.tgz", "0.tar"])
def test_compressed_tars_are_explained(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(_pairs(1)))
    with pytest.raises(ValueError, match="is compressed"):
        _read(str(tmp_path / name))


def test_sources_travel_to_other_processes_and_notice_changes(tmp_path):
    (tmp_path / "0.tar").write_bytes(_pairs(2))
    source = _source(str(tmp_path))
    again = pickle.loads(pickle.dumps(source))
    (part,) = pickle.loads(pickle.dumps(source.parts()))
    assert list(again.read(part)) == list(source.read(part))
    assert again.settings() == source.settings() == json.loads(json.dumps(source.settings()))
    (tmp_path / "1.tar").write_bytes(_pairs(2))
    assert _source(str(tmp_path)).settings()["input"] != source.settings()["input"]


def test_remote_shards_are_read_through_the_cache(tmp_path):
    system = fsspec.filesystem("memory")
    for shard in range(2):
        member = [(f"{shard}.png", _picture()), (f"{shard}.txt", b"x")]
        system.pipe(f"/wds/{shard}.tar", _tar(member))
    path = "memory://wds/{0..1}.tar"
    with pytest.raises(ValueError, match=r"data\.schemes"):
        _read(path)
    records, bad = _read(path, schemes=["memory"], cache_dir=str(tmp_path))
    assert set(records) == {"0", "1"} and not bad
    assert len(list(Path(tmp_path, "files").iterdir())) == 2
