"""Batches: pure functions of (step, global indices), whatever was read before."""

import pickle

import numpy as np
import pytest
import torch

from ldm.data.batches import ImageBatches, LatentBatches, crop, train_loader
from ldm.data.images import fit, to_tensor
from ldm.data.latents.cache import LatentCache
from ldm.data.order import InBuckets, Once, Share, Shuffled, Slot, Streamed, blocks
from ldm.data.shards.reader import ImageShards
from ldm.random import stream, uniform
from tests.data.drawn import MemoryCache, colours, write_shards


@pytest.fixture
def shards(world) -> ImageShards:
    return ImageShards(world.shards)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> ImageShards:
    """40 samples in three unequal shards."""
    return ImageShards(write_shards(tmp_path_factory.mktemp("foreign") / "shards", [7, 20, 13]))


def pictures(shards, *, size_px=32, flip=False, seed=0, order=None, **more) -> ImageBatches:
    order = order or Shuffled(seed, len(shards))
    return ImageBatches(shards, order=order, size_px=size_px, flip=flip, seed=seed, **more)


def lengths(captions):
    return torch.tensor([[len(caption)] for caption in captions])


def test_a_batch_is_a_pure_function_of_its_slot(shards):
    def batches():
        return pictures(shards, flip=True, seed=3, tokenize=lengths)

    index = torch.arange(60, 72)  # over the seam of two passes
    whole = batches()[Slot(5, index)]
    assert whole.image.shape == (12, 3, 32, 32) and whole.image.dtype == torch.float32
    assert -1.0 <= whole.image.min() < whole.image.max() <= 1.0
    assert whole.bad == ()
    for part in index.split(4):
        piece = batches()[Slot(9, part, 3)]
        here = part - 60
        assert torch.equal(piece.image, whole.image[here])
        assert torch.equal(piece.ids, whole.ids[here])
        assert (piece.step, piece.micro_steps) == (9, 3) and torch.equal(piece.index, part)


@pytest.mark.parametrize("name", ["shuffled", "streamed"])
def test_pictures_are_those_of_the_order(foreign, name):
    order = {
        "shuffled": Shuffled(1, len(foreign)),
        "streamed": Streamed(1, foreign.shard_counts, 4, 2),
    }[name]
    index = torch.arange(36, 44)
    found = pictures(foreign, size_px=8, order=order)[Slot(0, index)]
    assert colours(found.image) == order.positions(index).tolist()
    assert found.ids.shape == (8, 0)  # no tokenizer: no ids


def test_half_of_the_pictures_are_mirrored_by_key(shards):
    index = torch.arange(1024)
    plain = pictures(shards)[Slot(0, index)].image
    found = pictures(shards, flip=True)[Slot(0, index)].image
    mirrored = (found == plain.flip(-1)).flatten(1).all(1)
    kept = (found == plain).flatten(1).all(1)
    assert bool((mirrored | kept).all())
    asymmetric = ~(mirrored & kept)
    assert asymmetric.sum() > 900
    assert abs(float(mirrored[asymmetric].float().mean()) - 0.5) < 0.06  # 3.8 sigma
    # The second visit to a picture draws anew: the key is the global index, not the picture.
    first, second = found[:64], found[64:128]
    order = Shuffled(0, 64)
    places = [order.positions(torch.arange(start, start + 64)).argsort() for start in (0, 64)]
    same = (first[places[0]] == second[places[1]]).flatten(1).all(1)
    assert 0.2 < float(same.float().mean()) < 0.8


def test_one_of_several_captions_is_chosen_by_key(foreign, monkeypatch):
    def captions(self, i):
        return tuple(f"{i} {'again ' * k}" for k in range(i % 3 + 1))

    monkeypatch.setattr(ImageShards, "captions", captions)
    index = torch.arange(400)
    chosen: list[str] = []
    pictures(foreign, size_px=8, seed=2, tokenize=lambda c: chosen.extend(c) or lengths(c))[
        Slot(0, index)
    ]
    where = Shuffled(2, 40).positions(index).tolist()
    u = uniform(stream(2, "caption"), index).tolist()
    assert chosen == [
        foreign.captions(i)[int(x * (i % 3 + 1))] for i, x in zip(where, u, strict=True)
    ]
    assert len({caption for caption in chosen if caption.startswith("2 ")}) == 3


def test_what_has_the_size_is_untouched_and_larger_is_scaled():
    square = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    assert torch.equal(crop(square, 12), to_tensor(square))
    wide = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    assert torch.equal(crop(wide, 12), to_tensor(fit(wide, (12, 12))))
    halves = np.zeros((20, 40, 3), np.uint8)
    halves[:, 20:] = 255  # the whole height remains, and the middle of the width
    assert crop(halves, 10)[:, :, :4].max() < -0.9 and crop(halves, 10)[:, :, 6:].min() > 0.9
    with pytest.raises(ValueError, match=r"14x10 px is smaller than size=12.*data.size_px=12"):
        crop(np.zeros((10, 14, 3), np.uint8), 12)


def test_a_bad_picture_is_replaced_by_the_next_and_named(tmp_path):
    shards = ImageShards(write_shards(tmp_path / "shards", [10, 10], damaged=5))
    order = Shuffled(0, 20)
    batch = pictures(shards, size_px=8)[Slot(0, torch.arange(20))]
    where = order.positions(torch.arange(20)).tolist()
    assert colours(batch.image) == [(i + 1) % 20 if i % 5 == 4 else i for i in where]
    assert sorted(bad.key for bad in batch.bad) == ["000004", "000009", "000014", "000019"]
    assert {bad.reason for bad in batch.bad} == {"truncated or damaged picture"}


def test_nothing_but_bad_pictures_is_said_at_once(tmp_path):
    shards = ImageShards(write_shards(tmp_path / "shards", [3]))
    with pytest.raises(ValueError, match=r"no usable picture among 3 in .*8x8 px is smaller"):
        pictures(shards, size_px=16)[Slot(0, torch.arange(2))]


def test_latents_are_gathered_in_the_same_order(world):
    cache = LatentCache(world.latents)
    index = torch.arange(72, 80)
    batch = LatentBatches(cache, order=InBuckets(2, cache.counts, 8), seed=2)[Slot(9, index)]
    rows = Shuffled(2, 64).positions(index)
    found = cache.gather(0, rows, lambda name: torch.full((8,), 0.5))
    assert torch.equal(batch.code, found.code) and torch.equal(batch.ids, found.ids)
    assert batch.code.dtype == torch.float16 and batch.ids.dtype == torch.int64


def test_a_batch_of_latents_is_of_one_bucket_with_keyed_variants_and_captions():
    order = InBuckets(5, [40, 80, 30], 10)
    batches = LatentBatches(MemoryCache([40, 80, 30], 4, 3), order=order, seed=5)
    for step in range(30):
        index = torch.arange(step * 10, step * 10 + 10)
        batch = batches[Slot(step, index, 2)]
        bucket, rows, variant, caption = batch.code[:, :, 0, 0].T.long()
        assert bucket.tolist() == [order.bucket_of(step)] * 10
        assert torch.equal(rows, order.positions(step, index))
        assert torch.equal(variant, (uniform(stream(5, "variant"), index) * 4).long())
        assert torch.equal(caption, (uniform(stream(5, "caption"), index) * 3).long())
        assert batch.micro_steps == 2 and batch.tokens is None


def test_held_out_latents_come_by_bucket():
    batches = LatentBatches(MemoryCache([3, 5]), order=Once(0, [3, 5]), seed=0)
    first, second = (batches[Slot(0, index)] for index in blocks([3, 5], [3, 5]))
    assert first.code.shape == (3, 4, 1, 2)
    assert sorted(second.ids[:, 0].tolist()) == [0, 1, 2, 3, 4] and second.code[0, 0, 0, 0] == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_resumes_anywhere_with_any_number_of_workers(workers):
    """Micro-batches of different sizes, too."""
    order = InBuckets(0, [40, 30], 8)
    batches = LatentBatches(MemoryCache([40, 30], 2, 2), order=order, seed=0)

    def read(start, stop, workers=workers):
        shares = [Share(8, 4), Share(8, 2)]
        return list(
            train_loader(batches, shares, start_step=start, stop_step=stop, workers=workers)
        )

    straight, resumed = read(0, 9, workers=0), read(0, 4) + read(4, 9)
    assert [b.step for b in straight] == [
        step for step in range(9) for _ in range((2, 4)[order.bucket_of(step)])
    ]
    for one, other in zip(straight, resumed, strict=True):
        assert one.step == other.step and torch.equal(one.index, other.index)
        assert one.micro_steps == other.micro_steps == 8 // len(one.index)
        assert torch.equal(one.code, other.code) and torch.equal(one.ids, other.ids)


def test_a_worker_is_sent_the_place_of_the_latents_and_not_the_latents(world):
    cache = LatentCache(world.latents)
    batches = LatentBatches(cache, order=InBuckets(0, cache.counts, 8), seed=0)
    sent = pickle.dumps(batches)
    assert len(sent) < 8_000  # the codes are 64 x 8 KB
    slot = Slot(3, torch.arange(24, 32))
    received, kept = pickle.loads(sent)[slot], batches[slot]
    assert torch.equal(received.code, kept.code) and torch.equal(received.ids, kept.ids)


def test_every_tensor_of_a_batch_is_pinned(world, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self + 0)
    cache = LatentCache(world.latents)
    batch = LatentBatches(cache, order=Once(0, cache.counts), seed=0)[Slot(0, torch.arange(4))]
    again = batch.pin_memory()
    assert {id(t) for t in pinned} == {
        id(part) for part in (batch.index, batch.code, batch.ids, batch.sizes)
    }
    assert again is not batch and torch.equal(again.code, batch.code) and again.step == batch.step
