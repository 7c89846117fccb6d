"""Batches: pure functions of (step, global indices), whatever was read before."""

import pickle

import numpy as np
import pytest
import torch

from ldm.data.batches import ImageBatches, LatentBatches, crop, train_loader
from ldm.data.cache import LatentCache
from ldm.data.order import Share, positions
from ldm.data.shards import ImageShards


@pytest.fixture
def shards(world) -> ImageShards:
    return ImageShards(world.shards)


def lengths(captions):
    return torch.tensor([[len(caption)] for caption in captions])


def test_a_batch_is_a_pure_function_of_its_slot(shards):
    batches = ImageBatches(shards, size_px=32, flip=True, seed=3, tokenize=lengths)
    index = torch.arange(60, 72)  # over the seam of two passes
    whole = batches[5, index]
    assert whole.image.shape == (12, 3, 32, 32) and whole.image.dtype == torch.float32
    assert -1.0 <= whole.image.min() < whole.image.max() <= 1.0
    for part in index.split(4):
        piece = ImageBatches(shards, size_px=32, flip=True, seed=3, tokenize=lengths)[9, part]
        here = part - 60
        assert torch.equal(piece.image, whole.image[here])
        assert torch.equal(piece.ids, whole.ids[here])
        assert piece.step == 9 and torch.equal(piece.index, part)


def test_pictures_are_those_of_the_keyed_order(shards):
    batches = ImageBatches(shards, size_px=32, flip=False, seed=1)
    index = torch.arange(6)
    where = positions(1, len(shards), index).tolist()
    expected = torch.stack([crop(shards[i].image, 32) for i in where])
    found = batches[0, index]
    assert torch.equal(found.image, expected)
    assert found.ids.shape == (6, 0)  # no tokenizer: no ids


def test_half_of_the_pictures_are_mirrored_by_key(shards):
    index = torch.arange(1024)
    plain = ImageBatches(shards, size_px=32, flip=False, seed=0)[0, index].image
    found = ImageBatches(shards, size_px=32, flip=True, seed=0)[0, index].image
    mirrored = (found == plain.flip(-1)).flatten(1).all(1)
    kept = (found == plain).flatten(1).all(1)
    assert bool((mirrored | kept).all())
    asymmetric = ~(mirrored & kept)
    assert asymmetric.sum() > 900
    assert abs(float(mirrored[asymmetric].float().mean()) - 0.5) < 0.06  # 3.8 sigma
    # The second visit to a picture draws anew: the key is the global index, not the picture.
    first, second = found[:64], found[64:128]
    places = [positions(0, 64, torch.arange(start, start + 64)).argsort() for start in (0, 64)]
    same = (first[places[0]] == second[places[1]]).flatten(1).all(1)
    assert 0.2 < float(same.float().mean()) < 0.8


def test_the_crop_is_centred_and_refuses_to_enlarge():
    image = np.zeros((10, 14, 3), np.uint8)
    image[3:7, 5:9] = 255
    assert torch.equal(crop(image, 4), torch.ones(3, 4, 4))
    with pytest.raises(ValueError, match=r"14x10 px is smaller than size=12.*data.size_px=12"):
        crop(image, 12)


def test_latents_are_gathered_in_the_same_order(world):
    cache = LatentCache(world.latents)
    index = torch.arange(70, 80)
    batch = LatentBatches(cache, seed=2)[4, index]
    where = positions(2, len(cache), index).numpy()
    codes, ids = cache.arrays[0]["codes"][where, 0], cache.arrays[0]["ids"][where]
    assert torch.equal(batch.code, torch.from_numpy(codes).float())
    assert batch.code.dtype == torch.float32 and batch.ids.dtype == torch.int64
    assert torch.equal(batch.ids, torch.from_numpy(ids.astype(np.int64)))


def test_the_loader_resumes_anywhere(world):
    batches = LatentBatches(LatentCache(world.latents), seed=0)

    def read(start, stop):
        return list(train_loader(batches, Share(8, 4), start_step=start, stop_step=stop, workers=0))

    straight, resumed = read(0, 5), read(0, 2) + read(2, 5)
    assert [b.step for b in straight] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    for one, other in zip(straight, resumed, strict=True):
        assert one.step == other.step and torch.equal(one.index, other.index)
        assert torch.equal(one.code, other.code) and torch.equal(one.ids, other.ids)


def test_a_worker_is_sent_the_place_of_the_latents_and_not_the_latents(world):
    batches = LatentBatches(LatentCache(world.latents), seed=0)
    sent = pickle.dumps(batches)
    assert len(sent) < batches.cache.arrays[0]["codes"].nbytes / 2
    slot = (3, torch.arange(24, 32))
    received, kept = pickle.loads(sent)[slot], batches[slot]
    assert torch.equal(received.code, kept.code) and torch.equal(received.ids, kept.ids)


def test_every_tensor_of_a_batch_is_pinned(world, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self + 0)
    batch = LatentBatches(LatentCache(world.latents), seed=0)[0, torch.arange(4)]
    again = batch.pin_memory()
    assert [id(t) for t in pinned] == [
        id(part) for part in (batch.index, batch.code, batch.ids, batch.sizes)
    ]
    assert again is not batch and torch.equal(again.code, batch.code) and again.step == batch.step
