"""Parquet files with pictures or paths, several captions, and columns of all kinds."""

import io
import json
import os
import pickle
import sys

import fsspec
import pytest
from PIL import Image

from ldm.data.source import Bad, Record
from ldm.data.sources.parquet import ParquetSource

pyarrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def _picture(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), color).save(buffer, "PNG")
    return buffer.getvalue()


def _source(path, **changes) -> ParquetSource:
    defaults = {"image": "image", "captions": ["text"], "key": None, "schemes": []}
    more = {"cache_dir": None, "cache_gb": 1.0}
    return ParquetSource(path=str(path), **{**defaults, **more, **changes})


def _read(path, **changes) -> list[Record | Bad]:
    source = _source(path, **changes)
    items = [list(source.read(part)) for part in source.parts()]
    assert [len(i) for i in items] == [part.count for part in source.parts()]
    return [item for part in items for item in part]


def _write(path, columns: dict, **more) -> None:
    pq.write_table(pyarrow.table(columns), path, **more)


def test_bytes_captions_and_columns_in_row_groups(tmp_path):
    columns = {
        "image": [_picture()] * 5,
        "text": [f"caption {n}" for n in range(5)],
        "licence": ["cc0", None, "by", "by", "by"],
        "score": [0.5, float("nan"), 1.0, 1.0, 1.0],
        "width": [1, 2, 3, 4, 5],
        "tags": [["a"]] * 5,
    }
    _write(tmp_path / "a.b.parquet", columns, row_group_size=2)
    assert [part.count for part in _source(tmp_path).parts()] == [2, 2, 1]
    records = _read(tmp_path)
    assert [record.key for record in records] == [f"a.b-{n:08d}" for n in range(5)]
    assert records[4].captions == ("caption 4",) and records[4].picture == _picture()
    assert records[1].meta == {"licence": None, "score": None, "width": 2}


def test_pictures_as_hugging_face_writes_them_and_as_paths(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(_picture("blue"))
    images = [
        {"bytes": _picture(), "path": "x.png"},
        {"bytes": None, "path": "pictures/a.png"},
        {"bytes": None, "path": None},
        None,
        {"bytes": None, "path": "../a.png"},
        {"bytes": None, "path": "/etc/passwd"},
        {"bytes": None, "path": "pictures/../pictures/gone.png"},
        {"bytes": None, "path": "pipe.png"},
    ]
    os.mkfifo(tmp_path / "pipe.png")
    _write(tmp_path / "a.parquet", {"image": images})
    items = _read(tmp_path, captions=[])
    assert [item.picture for item in items[:2]] == [_picture(), _picture("blue")]
    assert items[0].captions == ()
    *reasons, pipe = [item.reason for item in items[2:]]
    assert pipe == "path of no regular file"
    outside = "path leads out of the folder of its table"
    assert reasons == ["no picture", "no picture", outside, outside, "cannot be opened"]
    _write(tmp_path / "a.parquet", {"image": ["pictures/a.png"]})
    assert _read(tmp_path, captions=[])[0].picture == _picture("blue")


def test_several_captions_chosen_columns_and_keys(tmp_path):
    columns = {
        "jpg": [_picture()] * 3,
        "short": ["one", None, None],
        "long": [["two", "three"], ["four"], []],
        "id": [7, 8, None],
    }
    _write(tmp_path / "a.parquet", columns)
    items = _read(tmp_path, image="jpg", captions=["short", "long"], key="id")
    assert [(item.key, item.captions) for item in items[:2]] == [
        ("7", ("one", "two", "three")),
        ("8", ("four",)),
    ]
    assert items[0].meta == {"id": 7} and items[2] == Bad("a-00000002", "missing key")
    assert _read(tmp_path, image="jpg", captions=["long"])[2].reason == "missing caption"
    with pytest.raises(ValueError, match="no column 'text'; it has jpg, short, long, id"):
        _source(tmp_path, image="jpg").parts()


def test_files_of_one_name_in_several_folders_have_keys_of_their_own(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        _write(tmp_path / folder / "a.parquet", {"image": [_picture()], "text": ["x"]})
    assert [r.key for r in _read(tmp_path / "*/*.parquet")] == ["x/a-00000000", "y/a-00000000"]


def test_what_is_broken_in_a_row_costs_that_row(tmp_path):
    """Invalid UTF-8, and a time beyond the calendar in a column that nobody asked for."""
    offsets, text = pyarrow.array([0, 1, 4, 5], "int32"), b"a\xff\xfe\xfdb"
    buffers = [None, offsets.buffers()[1], pyarrow.py_buffer(text)]
    texts = pyarrow.StringArray.from_buffers(3, *buffers[1:])
    times = pyarrow.array([0, 1, 2**62], pyarrow.timestamp("us"))
    _write(tmp_path / "a.parquet", {"image": [_picture()] * 3, "text": texts, "time": times})
    first, bad, last = _read(tmp_path)
    assert bad == Bad("a-00000001", "column text cannot be read")
    assert (first.captions, last.captions, last.meta) == (("a",), ("b",), {})


def test_a_damaged_row_group_is_named_and_the_others_are_read(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {"image": [_picture()] * 4, "text": list("abcd")}
    _write(path, columns, row_group_size=2, use_dictionary=False)
    place = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[place : place + 40] = b"\xff" * 40
    path.write_bytes(data)
    source = _source(path)
    bad, *records = [item for part in source.parts() for item in source.read(part)]
    assert bad == Bad(f"{path}, row group 0", "damaged row group")
    assert [record.captions for record in records] == [("c",), ("d",)]


def test_what_is_no_parquet_is_explained(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"a\.parquet is no parquet file, or damaged"):
        _source(tmp_path).parts()


def test_without_pyarrow_the_command_is_named(tmp_path, monkeypatch):
    _write(tmp_path / "a.parquet", {"image": [_picture()], "text": ["x"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'ldm\[parquet\]'"):
        _source(tmp_path).parts()


def test_sources_travel_and_notice_changes(tmp_path):
    _write(tmp_path / "a.parquet", {"image": [_picture()], "text": ["x"]})
    source = _source(tmp_path)
    before = source.settings()
    (part,) = pickle.loads(pickle.dumps(source.parts()))
    assert list(pickle.loads(pickle.dumps(source)).read(part)) == list(source.read(part))
    assert before == json.loads(json.dumps(before))
    _write(tmp_path / "a.parquet", {"image": [_picture()], "text": ["y"]})
    assert _source(tmp_path).settings()["input"] != before["input"]


def test_remote_tables_hold_their_pictures(tmp_path):
    _write(tmp_path / "a.parquet", {"image": [_picture()], "text": ["x"]})
    system = fsspec.filesystem("memory")
    system.pipe("/tables/a.parquet", (tmp_path / "a.parquet").read_bytes())
    more = {"schemes": ["memory"], "cache_dir": str(tmp_path / "cache")}
    (record,) = _read("memory://tables/a.parquet", **more)
    assert record.picture == _picture() and record.key == "a-00000000"
    _write(tmp_path / "a.parquet", {"image": ["a.png"], "text": ["x"]})
    system.pipe("/tables/a.parquet", (tmp_path / "a.parquet").read_bytes())
    (bad,) = _read("memory://tables/a.parquet", **more)
    assert bad.reason == "a path, which a remote table cannot have"
