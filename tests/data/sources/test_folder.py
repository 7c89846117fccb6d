"""A folder of pictures as people have them."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm.data.source import Bad, Record
from ldm.data.sources.folder import FolderSource


def _picture(path: Path, size: tuple[int, int] = (40, 30), color: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def _folder(folder: Path, captions="auto") -> FolderSource:
    return FolderSource(path=str(folder), captions=captions)


def _all(source: FolderSource) -> tuple[dict[str, Record], dict[str, str]]:
    """Records by path, and reasons by path."""
    items = [item for part in source.parts() for item in source.read(part)]
    assert len(items) == sum(part.count for part in source.parts())
    good = {item.meta["path"]: item for item in items if isinstance(item, Record)}
    return good, {item.key: item.reason for item in items if isinstance(item, Bad)}


def test_folder_without_captions(tmp_path):
    for i in range(10):
        _picture(tmp_path / f"x.v{i}.png")
    _picture(tmp_path / ".hidden.png")
    _picture(tmp_path / ".thumbs" / "a.png")
    (tmp_path / "notes.md").write_text("no picture")
    good, bad = _all(_folder(tmp_path))
    assert len(good) == 10 and not bad
    picture = (tmp_path / "x.v3.png").read_bytes()
    assert good["x.v3.png"] == Record("x.v3.png", picture, (), {"path": "x.v3.png"}, None)


def test_folder_with_classes(tmp_path):
    for i in range(3):
        _picture(tmp_path / "black_cat" / f"{i}.jpg")
        _picture(tmp_path / "dog" / "deep" / f"{i}.JPG")
    _picture(tmp_path / "stray.png")
    good, bad = _all(_folder(tmp_path))
    assert good["black_cat/1.jpg"].captions == ("black cat",)
    assert good["black_cat/1.jpg"].meta["class"] == "black cat"
    assert good["dog/deep/1.JPG"].captions == ("dog",)
    assert bad == {"stray.png": "missing caption"}
    assert not _all(_folder(tmp_path, captions="none"))[1]


def test_one_sub_folder_is_no_class(tmp_path):
    for i in range(3):
        _picture(tmp_path / "images" / f"{i}.png")
    assert {record.captions for record in _all(_folder(tmp_path))[0].values()} == {()}


def test_folder_with_sidecars_comes_before_metadata(tmp_path):
    captions = {"a": b"a red\n  field ", "b": b"\xef\xbb\xbfwith mark", "d": b"\xff"}
    for name, caption in captions.items():
        _picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes(caption)
    _picture(tmp_path / "f.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "f.png", "text": "meta"}\n')
    good, bad = _all(_folder(tmp_path))
    found = {name: record.captions[0] for name, record in good.items()}
    # What is no UTF-8 is left to the rules for captions of all sources.
    assert found == {"a.png": "a red\n  field ", "b.png": "with mark", "d.png": "\udcff"}
    assert bad == {"f.png": "missing caption"}
    good, _ = _all(_folder(tmp_path, captions="metadata"))
    assert {name: record.captions for name, record in good.items()} == {"f.png": ("meta",)}


def test_endings_in_capitals_are_endings(tmp_path):
    for name in ("A", "b"):
        _picture(tmp_path / f"{name}.JPG")
        (tmp_path / f"{name}.TXT").write_text(f"picture {name}")
    (tmp_path / "b.txt").write_text("small letters first")
    good, bad = _all(_folder(tmp_path))
    assert good["A.JPG"].captions == ("picture A",) and not bad
    assert good["b.JPG"].captions == ("small letters first",)


def test_linked_folders_are_followed_once_and_pipes_are_passed_over(tmp_path):
    _picture(tmp_path / "elsewhere" / "a.png")
    _picture(tmp_path / "set" / "real" / "b.png")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set" / "real")
    (tmp_path / "set" / "round").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "set" / "linked")
    os.mkfifo(tmp_path / "set" / "pipe.png")
    os.mkfifo(tmp_path / "set" / "metadata.jsonl")
    good, bad = _all(_folder(tmp_path / "set", captions="none"))
    assert set(good) == {"linked/a.png", "real/b.png"} and not bad


def test_folder_with_metadata(tmp_path):
    for name in ("a.png", "b.png", "sub/c.png", "d.png"):
        _picture(tmp_path / name)
    lines = [
        {"file_name": "a.png", "text": "first"},
        {"file_name": "./b.png", "caption": "second, “quoted”"},
        {"file_name": "gone.png", "text": "x"},
        {"file_name": "d.png", "text": None},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (tmp_path / "metadata.jsonl").write_text(text + "\n\n")
    (tmp_path / "sub" / "metadata.jsonl").write_text('{"file_name": "c.png", "text": "third"}')
    good, bad = _all(_folder(tmp_path))
    captions = {name: record.captions[0] for name, record in good.items()}
    assert captions == {"a.png": "first", "b.png": "second, “quoted”", "sub/c.png": "third"}
    assert set(bad) == {"gone.png", "d.png"} and "no such picture" in bad["gone.png"]
    assert bad["d.png"] == "missing caption"


def test_metadata_holds_several_captions_chosen_columns_and_more(tmp_path):
    lines = [
        {"file_name": "a.png", "text": ["one", "two"], "alt": "three", "licence": "cc0"},
        {"file_name": "b.png", "captions": ["four"], "alt": 5, "score": float("nan")},
    ]
    for line in lines:
        _picture(tmp_path / line["file_name"])
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    good, bad = _all(_folder(tmp_path))
    assert good["a.png"].captions == ("one", "two") and good["b.png"].captions == ("four",)
    assert good["a.png"].meta == {"alt": "three", "licence": "cc0", "path": "a.png"}
    assert good["b.png"].meta == {"alt": 5, "score": None, "path": "b.png"} and not bad
    chosen = _folder(tmp_path, captions=["alt", "text"])
    good, bad = _all(chosen)
    assert good["a.png"].captions == ("three", "one", "two")
    assert bad == {"b.png": "caption is no text"}
    assert chosen.settings()["captions"] == ["alt", "text"]


def test_arrays_are_pictures_where_there_are_no_others(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((4, 4, 5), np.uint16))
        (tmp_path / f"{name}.txt").write_text(name)
    good, _ = _all(_folder(tmp_path))
    assert good["a.npy"].picture == (tmp_path / "a.npy").read_bytes()
    assert good["a.npy"].captions == ("a",)
    for name in ("a", "b"):
        _picture(tmp_path / f"{name}.png")
    assert set(_all(_folder(tmp_path))[0]) == {"a.png", "b.png"}


def test_sources_travel_to_other_processes(tmp_path):
    for name in ("a", "b"):
        _picture(tmp_path / f"{name}.png")
    source = _folder(tmp_path)
    (part,) = pickle.loads(pickle.dumps(source.parts()))
    assert list(pickle.loads(pickle.dumps(source)).read(part)) == list(source.read(part))


@pytest.mark.parametrize(
    "line, message",
    [
        ("{oops", "line 2 is not JSON"),
        ('{"text": "x"}', 'line 2 has no "file_name"'),
        ('{"file_name": "a.png", "text": "x"}', "line 2 names 'a.png' a second time"),
    ],
)
def test_broken_metadata_names_the_line(tmp_path, line, message):
    _picture(tmp_path / "a.png")
    _picture(tmp_path / "b.png")
    first = '{"file_name": "a.png", "text": "x"}\n'
    (tmp_path / "metadata.jsonl").write_text(first + line)
    with pytest.raises(ValueError, match=message):
        _folder(tmp_path).parts()


def test_unusable_pictures_are_named_with_reasons(tmp_path):
    for i in range(3):
        _picture(tmp_path / f"good{i}.png")
    (tmp_path / "phone.heic").write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    good, bad = _all(_folder(tmp_path))
    assert set(good) == {"good0.png", "good1.png", "good2.png"}
    assert "convert it" in bad["phone.heic"] and bad["link.png"] == "cannot be opened"


def test_the_fingerprint_notices_changed_pictures(tmp_path):
    _picture(tmp_path / "a.png")
    _picture(tmp_path / "b.png")
    before = _folder(tmp_path).settings()
    assert before == _folder(tmp_path).settings()
    _picture(tmp_path / "b.png", (50, 50), "blue")
    assert before["input"] != _folder(tmp_path).settings()["input"]


def test_the_fingerprint_is_of_what_is_read_and_of_nothing_beside_it(tmp_path):
    for name in ("a.png", "b.png"):
        _picture(tmp_path / name)
    (tmp_path / "a.txt").write_text("one")
    before = _folder(tmp_path).settings()
    for name in ("Thumbs.db", "notes.txt", "out/000000.tar", "out/duplicates.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("other")
    assert _folder(tmp_path).settings() == before
    for name in ("a.txt", "b.TXT", "metadata.jsonl", "c.png"):
        earlier = _folder(tmp_path).settings()
        (tmp_path / name).write_text("another")
        assert _folder(tmp_path).settings() != earlier, name


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "holds 1 pictures, and at least 2"),
        ({"path": "/nowhere"}, "data.path=/nowhere is no folder"),
        ({"captions": "sidecars"}, "allowed: auto, sidecar"),
        ({"captions": "sidecar"}, "no picture in .* has a text file beside it"),
        ({"captions": "class"}, "holds its pictures directly"),
        ({"captions": "metadata"}, "holds no metadata.jsonl"),
        ({"captions": ["text"]}, "holds no metadata.jsonl"),
    ],
)
def test_mistakes_are_explained(tmp_path, changes, message):
    for name in ("a.png", "b.png")[: 2 if changes else 1]:
        _picture(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        FolderSource(**{"path": str(tmp_path), "captions": "auto"} | changes).parts()
