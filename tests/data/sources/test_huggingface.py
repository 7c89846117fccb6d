"""Data sets of Hugging Face's library, saved to disk or cached, never fetched unasked."""

import io
import json
import pickle
import socket
import sys

import pytest
from PIL import Image

from ldm.data.source import Bad, Record
from ldm.data.sources.huggingface import HuggingFaceSource

datasets = pytest.importorskip("datasets")


def _picture(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), color).save(buffer, "PNG")
    return buffer.getvalue()


def _table(count: int):
    columns = {
        "image": [{"bytes": _picture(), "path": None}] * count,
        "text": [f"caption {n}" for n in range(count)],
        "more": [["a", "b"]] * count,
        "label": list(range(count)),
    }
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


def _source(path, **changes) -> HuggingFaceSource:
    defaults = {"config_name": None, "image": "image", "captions": ["text"]}
    splits = {"train_split": "train", "held_out_split": None, "download": False}
    return HuggingFaceSource(path=str(path), **{**defaults, **splits, **changes})


def _read(path, **changes) -> list[Record | Bad]:
    source = _source(path, **changes)
    return [item for part in source.parts() for item in source.read(part)]


def test_a_saved_table_is_read_in_ranges_and_undecoded(tmp_path, monkeypatch):
    monkeypatch.setattr("ldm.data.sources.huggingface._ROWS", 2)
    _table(5).save_to_disk(tmp_path / "set")
    assert [part.count for part in _source(tmp_path / "set").parts()] == [2, 2, 1]
    records = _read(tmp_path / "set", captions=["text", "more"])
    assert [record.key for record in records] == [f"train-{n:08d}" for n in range(5)]
    assert records[3] == Record(
        "train-00000003", _picture(), ("caption 3", "a", "b"), {"label": 3}, None
    )
    assert _read(tmp_path / "set", captions=[])[0].captions == ()


def test_splits_are_taken_as_chosen(tmp_path):
    splits = {"train": _table(3), "validation": _table(2), "test": _table(1)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    assert {record.split for record in _read(tmp_path / "set")} == {None}
    records = _read(tmp_path / "set", held_out_split="validation")
    assert [record.split for record in records] == ["train"] * 3 + ["held_out"] * 2
    with pytest.raises(ValueError, match="no split 'val'; it has train, validation, test"):
        _read(tmp_path / "set", held_out_split="val")
    with pytest.raises(ValueError, match="no column 'caption'; it has image, text, more, label"):
        _read(tmp_path / "set", captions=["caption"])


def test_pictures_may_be_files_and_a_row_without_one_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(_picture("blue"))
    images = [None, {"bytes": _picture(), "path": None}, {"path": str(tmp_path / "a.png")}]
    columns = {"image": images, "text": ["x", None, "blue"]}
    table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    table.save_to_disk(tmp_path / "set")
    *items, last = _read(tmp_path / "set")
    assert last.picture == _picture("blue")
    bad = [(item.key, item.reason) for item in items]
    assert bad == [("train-00000000", "no picture"), ("train-00000001", "missing caption")]


def test_columns_that_are_not_read_cannot_spoil_a_row(tmp_path):
    junk = [{"bytes": b"junk", "path": None}] * 2
    table = _table(2).add_column("mask", junk).cast_column("mask", datasets.Image())
    table.save_to_disk(tmp_path / "set_[1]{a,b}")
    assert [r.meta for r in _read(tmp_path / "set_[1]{a,b}")] == [{"label": 0}, {"label": 1}]
    assert _source(tmp_path / "set_[1]{a,b}").settings()["input"]


def test_no_file_outside_of_the_data_set_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(_picture())
    paths = [str(tmp_path / "a.png"), "/dev/zero", str(tmp_path / "set" / "b.png")]
    columns = {"image": [{"bytes": None, "path": path} for path in paths], "text": ["x"] * 3}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "set")
    (tmp_path / "set" / "b.png").write_bytes(_picture("blue"))
    *bad, record = _read(tmp_path / "set")
    assert {item.reason for item in bad} == {"path leads out of the folder of its table"}
    assert record.picture == _picture("blue")


def test_sources_travel_and_notice_changes(tmp_path):
    _table(2).save_to_disk(tmp_path / "set")
    source = _source(tmp_path / "set")
    before = source.settings()
    (part,) = source.parts()
    assert list(pickle.loads(pickle.dumps(source)).read(part)) == list(source.read(part))
    assert before == json.loads(json.dumps(before)) == _source(tmp_path / "set").settings()
    _table(3).save_to_disk(tmp_path / "set2")
    assert _source(tmp_path / "set2").settings()["input"] != before["input"]


def test_what_cannot_be_loaded_is_explained(tmp_path, monkeypatch):
    import huggingface_hub.constants

    with pytest.raises(ValueError, match="not written by save_to_disk.*data=folder"):
        _read(tmp_path)
    with pytest.raises(ValueError, match="is no folder"):
        _read(tmp_path / "gone")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: pytest.fail("a connection"))
    with pytest.raises(ValueError, match=r"someone/pictures.*data\.download=true"):
        _read("someone/pictures")
    assert not huggingface_hub.constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'ldm\[huggingface\]'"):
        _read(tmp_path)


def test_a_name_is_found_in_the_cache(tmp_path, monkeypatch):
    """A data set that was prepared before, as a download leaves it, is found without a network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "someone___pictures" / "default" / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    table = _table(3)
    with datasets.arrow_writer.ArrowWriter(
        features=table.features, path=str(folder / "pictures-train.arrow")
    ) as writer:
        writer.write_table(table.data.table)
        writer.finalize()
    splits = {"train": {"name": "train", "num_examples": 3, "dataset_name": "pictures"}}
    info = {"features": table.features.to_dict(), "splits": splits, "builder_name": "parquet"}
    info |= {"dataset_name": "pictures", "config_name": "default", "version": "0.0.0"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    records = _read("someone/pictures")
    assert [record.captions for record in records] == [(f"caption {n}",) for n in range(3)]
    settings = _source("someone/pictures").settings()
    assert settings == _source("someone/pictures").settings()
