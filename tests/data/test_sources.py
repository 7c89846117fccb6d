"""The sources: shapes, digits, and a folder as people have them."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.data.picture_rules import PictureRules
from ldm.data.source import Bad, Record
from ldm.data.sources import digits
from ldm.data.sources.digits import DigitsSource
from ldm.data.sources.folder import FolderSource
from ldm.data.sources.shapes import ShapesSource
from ldm.worlds.shapes import Shape, judge, parse
from tests.data.test_prepare import RULES


def read(source) -> list[Record | Bad]:
    """All records of a source, checked against what its parts say."""
    found = []
    for part in pickle.loads(pickle.dumps(source)).parts():
        items = list(source.read(part))
        assert len(items) == part.count
        found += items
    return found


def split_of(source, split: str) -> list[Record]:
    return [item for item in read(source) if isinstance(item, Record) and item.split == split]


def _shapes(**changes) -> ShapesSource:
    return ShapesSource(
        **{"num_train": 300, "num_held_out": 20, "size_px": 32, "seed": 0} | changes
    )


def test_shapes_are_labelled_truly_and_splits_do_not_overlap():
    source = _shapes()
    train, held_out = split_of(source, "train"), split_of(source, "held_out")
    assert (len(train), len(held_out)) == (300, 20)
    assert len({sample.key for sample in train + held_out}) == 320
    truth = [Shape(**{f: sample.meta[f] for f in Shape._fields}) for sample in train]
    assert truth == [parse(sample.captions[0]) for sample in train]
    assert truth == judge(torch.from_numpy(np.stack([s.picture for s in train])).movedim(-1, 1))
    pixels = {sample.picture.tobytes() for sample in train}
    assert not pixels & {sample.picture.tobytes() for sample in held_out}
    # The held-out part stays when more is trained on.
    again = split_of(_shapes(num_train=5), "held_out")
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(again, held_out, strict=True))


def test_shapes_need_both_splits():
    with pytest.raises(ValueError, match="num_held_out=0"):
        _shapes(num_held_out=0)


def test_digit_captions_parse_back():
    for digit in range(10):
        captions = {digits.caption(digit, variant) for variant in range(len(digits.TEMPLATES))}
        assert len(captions) >= 6 and {digits.parse(caption) for caption in captions} == {digit}
    assert digits.caption(7) == "a handwritten seven"
    with pytest.raises(ValueError, match="exactly one"):
        digits.parse("a handwritten letter")


def test_digits_are_split_evenly_and_fill_the_frame():
    pytest.importorskip("sklearn")
    source = DigitsSource(size_px=32, held_out_fraction=0.2, seed=0)
    train, held_out = split_of(source, "train"), split_of(source, "held_out")
    assert len(train) + len(held_out) == 1797
    assert not {s.key for s in train} & {s.key for s in held_out}
    counts = np.bincount([sample.meta["digit"] for sample in held_out])
    assert counts.min() >= 34 and counts.max() <= 38
    assert all(digits.parse(sample.captions[0]) == sample.meta["digit"] for sample in held_out)
    images = np.stack([sample.picture for sample in train])
    assert images.shape[1:] == (32, 32, 3) and images.min() == 0 and images.max() == 255
    assert (images.mean(axis=(0, 2, 3)) > 20).mean() > 0.8  # ink in most rows: top to bottom


def _picture(path: Path, size: tuple[int, int] = (40, 30), color: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def _folder(folder: Path, **changes) -> FolderSource:
    return FolderSource(**{"path": str(folder), "captions": "auto", **changes})


def _all(source: FolderSource) -> tuple[dict[str, Record], dict[str, str]]:
    """Good records by path, and reasons by path."""
    items = read(source)
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
    assert {record.captions for record in good.values()} == {()}
    record = good["x.v3.png"]
    assert record.picture == (tmp_path / "x.v3.png").read_bytes()
    assert record.key == "x.v3.png" and record.meta == {"path": "x.v3.png"}
    assert record.split is None  # by the hash of the key, as in test_prepare


def test_folder_with_classes(tmp_path):
    for i in range(3):
        _picture(tmp_path / "black_cat" / f"{i}.jpg")
        _picture(tmp_path / "dog" / "deep" / f"{i}.JPG")
    _picture(tmp_path / "stray.png")
    good, bad = _all(_folder(tmp_path))
    cat = good["black_cat/1.jpg"]
    assert (*cat.captions, cat.meta["class"]) == ("black cat", "black cat")
    assert good["dog/deep/1.JPG"].captions == ("dog",)
    assert bad == {"stray.png": "missing caption"}
    assert not _all(_folder(tmp_path, captions="none"))[1]


def test_one_sub_folder_is_no_class(tmp_path):
    for i in range(3):
        _picture(tmp_path / "images" / f"{i}.png")
    assert {record.captions for record in _all(_folder(tmp_path))[0].values()} == {()}


def test_folder_with_sidecars_comes_before_metadata(tmp_path):
    captions = {
        "a": b"a red\n  field ",
        "b": b"\xef\xbb\xbfwith mark",
        "c": b"nul\0here",
        "d": b"\xff\xfe",
        "e": b" \n",
    }
    for name, caption in captions.items():
        _picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes(caption)
    _picture(tmp_path / "f.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "f.png", "text": "meta"}\n')
    good, bad = _all(_folder(tmp_path))
    rules = PictureRules(**RULES)
    made = {name: rules.apply(record) for name, record in good.items()}
    assert made["a.png"].captions == ("a red field",) and made["b.png"].captions == ("with mark",)
    bad |= {name: item.reason for name, item in made.items() if isinstance(item, Bad)}
    assert bad == {
        "c.png": "NUL in caption",
        "d.png": "caption is not UTF-8",
        "e.png": "empty caption",
        "f.png": "missing caption",
    }
    good, _ = _all(_folder(tmp_path, captions="metadata"))
    assert {name: record.captions for name, record in good.items()} == {"f.png": ("meta",)}


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
    assert captions == {
        "a.png": "first", "b.png": "second, “quoted”", "sub/c.png": "third", "d.png": ""
    }  # fmt: skip
    assert set(bad) == {"gone.png"} and "no such picture" in bad["gone.png"]


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


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "holds 1 pictures, and at least 2"),
        ({"path": "/nowhere"}, "data.path=/nowhere is no folder"),
        ({"captions": "sidecars"}, "allowed: auto, sidecar"),
        ({"captions": "sidecar"}, "no picture in .* has a text file beside it"),
        ({"captions": "class"}, "holds its pictures directly"),
        ({"captions": "metadata"}, "holds no metadata.jsonl"),
    ],
)
def test_mistakes_are_explained(tmp_path, changes, message):
    for name in ("a.png", "b.png")[: 2 if changes else 1]:
        _picture(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        _folder(tmp_path, **changes).parts()
