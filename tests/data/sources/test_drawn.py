"""The sources that draw or carry their own pictures: shapes and digits."""

import pickle

import numpy as np
import pytest
import torch

from ldm.data.source import Bad, Record
from ldm.data.sources import digits
from ldm.data.sources.digits import DigitsSource
from ldm.data.sources.shapes import ShapesSource
from ldm.worlds.shapes import Shape, judge, parse


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
