"""Duplicates: found whatever their number, and never leaked from training into the held-out."""

import io

import numpy as np
import pytest
from PIL import Image

from ldm.data.preparing.duplicates import difference_hash, exact_hash, first_near, near_pairs
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
    alike = rows(5000, near=0xFFF)
    alike["exact"][:100] = 1
    alike["near"][4000:] = 0x7FF  # one bit from the others
    alike["near"][4500] = 0xFFF << 40
    alike["split"][4500] = HELD_OUT
    found = select(alike, "near")
    assert np.flatnonzero(found.split != LEFT_OUT).tolist() == [0, 4500]
    assert [d.kind for d in found.duplicates] == ["exact"] * 99 + ["near"] * 4899
    assert {d.of for d in found.duplicates} == {0}


def test_of_one_photograph_saved_forty_times_one_stays_and_it_is_held_out():
    rng = np.random.default_rng(2)
    small = Image.fromarray(rng.integers(110, 128, (9, 9, 3), np.uint8))
    photograph = small.resize((96, 96), Image.Resampling.BICUBIC)
    hashes = []
    for quality in range(55, 95):
        buffer = io.BytesIO()
        photograph.save(buffer, "JPEG", quality=quality)
        hashes.append(difference_hash(np.asarray(Image.open(buffer))))
    assert len({*hashes}) > 4
    again = rows(41, near=[*hashes, hashes[0] ^ 0xFFFF << 16], split=TRAIN)
    again["split"][:40:3] = HELD_OUT
    found = select(again, "near")
    assert np.flatnonzero(found.split != LEFT_OUT).tolist() == [0, 40]
    assert {d.of for d in found.duplicates} == {0}


def test_a_crowd_hangs_together_by_its_chains_and_the_first_stands_for_it():
    rng = np.random.default_rng(1)
    steps = [0xF0F0F0F0F0F0F0]  # each two bits from the one before
    for bit in range(0, 24, 2):
        steps.append(steps[-1] ^ (3 << bit))
    order = rng.permutation(len(steps))
    hashes = np.array(steps, np.uint64)[order]
    assert first_near(hashes).tolist() == [0] * len(steps)
    hashes[order == 6] = np.uint64(0xABCDEF << 40)  # the link in the middle
    found = first_near(hashes)
    assert len(np.unique(found)) == 3
    assert (np.unique(found[order < 6]) == np.flatnonzero(order < 6)[0]).all()
    assert (np.unique(found[order > 6]) == np.flatnonzero(order > 6)[0]).all()


def test_flat_and_steadily_darkening_pictures_are_near_to_none():
    rng = np.random.default_rng(0)
    flat = [np.full((32, 32, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(10)]
    ramp = np.linspace(255, 0, 32).astype(np.uint8)
    steady = [ramp, ramp[::-1], ramp // 2]
    pictures = [*flat, *(np.broadcast_to(r[None, :, None], (32, 32, 3)) for r in steady)]
    hashes = np.array([difference_hash(picture) for picture in pictures], np.uint64)
    assert {*hashes.tolist()} == {0, 2**64 - 1}
    assert first_near(hashes).tolist() == list(range(13))
    assert not select(rows(13, near=hashes), "near").duplicates


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_a_held_out_picture_stays_and_its_training_twin_goes(kind):
    twins = rows(6, split=[TRAIN, HELD_OUT, TRAIN, TRAIN, HELD_OUT, TRAIN])
    twins["exact"][[0, 4]] = 5
    twins["near"][[0, 4]] = 0xFFF
    twins["near"][[1, 3]] = 0xFFF << 20
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
