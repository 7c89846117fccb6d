"""Duplicates: found whatever their number, and never leaked from training into the held-out."""

import io

import numpy as np
import pytest
from PIL import Image

from ldm.data.preparing.duplicates import difference_hash, exact_hash, near_pairs
from ldm.data.preparing.selection import HELD_OUT, LEFT_OUT, TRAIN, select

FIELDS = [*((name, "<u8") for name in ("name", "rank", "exact", "near")), ("split", "i1")]


def rows(count: int, **fields):
    found = np.zeros(count, FIELDS)
    for number, name in enumerate(("name", "rank", "exact", "near")):
        found[name] = np.random.default_rng(number).integers(0, 2**63, count, dtype=np.uint64)
    for name, values in fields.items():
        found[name] = values
    return found


def test_the_difference_hash_survives_scaling_compression_and_light():
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((200, 200))
        for _ in range(20)
    ]
    hashes = [difference_hash(np.asarray(picture)) for picture in pictures]
    for picture, expected in zip(pictures, hashes, strict=True):
        buffer = io.BytesIO()
        picture.resize((120, 120)).point(lambda v: 20 + v * 0.8).save(buffer, "JPEG", quality=80)
        found = difference_hash(np.asarray(Image.open(buffer)))
        assert (found ^ expected).bit_count() <= 4
    between = [(a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(between) > 12
    assert len({exact_hash(np.asarray(picture)) for picture in pictures}) == 20
    assert exact_hash(np.zeros((2, 3, 3), np.uint8)) != exact_hash(np.zeros((3, 2, 3), np.uint8))


def test_all_pairs_up_to_two_bits_apart_are_found():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 3000, dtype=np.uint64)
    flips = [(a, b) for a in range(0, 64, 3) for b in range(a, 64, 5)]  # a == b: one bit
    for i, (a, b) in enumerate(flips):
        hashes[2000 + i] = hashes[i] ^ np.uint64(1 << a | 1 << b)
    assert near_pairs(hashes).tolist() == [[i, 2000 + i] for i in range(len(flips))]
    assert near_pairs(hashes[:1]).tolist() == [] == near_pairs(hashes[:0]).tolist()


def test_of_many_alike_ones_exactly_one_stays():
    alike = rows(5000, near=7)
    alike["exact"][:100] = 1
    alike["near"][4000:] = 3  # one bit from the others
    alike["near"][4500] = 1 << 60 | 1 << 50 | 1 << 40
    alike["split"][4500] = HELD_OUT
    found = select(alike, "near")
    assert np.flatnonzero(found.split != LEFT_OUT).tolist() == [0, 4500]
    assert [d.kind for d in found.duplicates] == ["exact"] * 99 + ["near"] * 4899
    assert {d.of for d in found.duplicates} == {0}


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_a_held_out_picture_stays_and_its_training_twin_goes(kind):
    twins = rows(6, split=[TRAIN, HELD_OUT, TRAIN, TRAIN, HELD_OUT, TRAIN])
    twins["exact"][[0, 4]] = 5
    twins["near"][[0, 4]] = 5
    twins["near"][[1, 3]] = 0b111000
    found = select(twins, kind)
    left_out = [0] if kind == "exact" else [0, 3]
    assert np.flatnonzero(found.split == LEFT_OUT).tolist() == left_out
    assert [tuple(d) for d in found.duplicates] == [(0, 4, "exact"), (3, 1, "near")]
    assert (select(twins, "report").split == twins["split"]).all()
    assert not select(twins, None).duplicates


def test_of_equal_names_the_first_stays():
    same = rows(5, name=[1, 2, 1, 1, 3])
    found = select(same, "report")
    assert found.repeated.tolist() == [2, 3]
    assert np.flatnonzero(found.split == LEFT_OUT).tolist() == [2, 3]
