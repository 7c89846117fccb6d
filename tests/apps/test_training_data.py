"""What a run reads and says of it: held-out blocks of every rank, and buckets in words."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from ldm.apps.training_data import HeldOutBlocks, buckets_in_words
from ldm.data.batches import LatentBatches
from ldm.data.order import Once, Share
from tests.data.drawn import MemoryCache

CONFIG = OmegaConf.create({"validate_block": 4})


@pytest.mark.parametrize("counts", [[10, 7], [1, 0], [3, 3]])
def test_any_number_of_ranks_computes_the_same_blocks_once(monkeypatch, counts):
    batches = LatentBatches(MemoryCache(counts), order=Once(0, counts), seed=0)
    assembly = SimpleNamespace(held_out=batches, held_out_block=None)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    found = {}
    for ranks in (1, 2, 3):
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda ranks=ranks: ranks)
        read, seen, times = {}, [], []
        for rank in range(ranks):
            monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            mine = list(HeldOutBlocks(assembly, CONFIG, see=seen.append))  # type: ignore[arg-type]
            times.append(len(mine))
            for number, batch in mine:
                bucket = int(batch.code[0, 0, 0, 0])
                read[number] = [(bucket, row) for row in batch.ids[:, 0].tolist()]
        assert max(times) - min(times) <= 1 and sorted(read) == list(range(len(read)))
        assert max(map(len, read.values())) <= 4 and len(seen) == sum(times) == len(read)
        found[ranks] = read
    assert found[1] == found[2] == found[3]
    rows = sorted(row for block in found[1].values() for row in block)
    assert rows == [(b, row) for b, count in enumerate(counts) for row in range(count)]


def test_buckets_are_told_where_there_are_several_or_too_few_pictures():
    cache = MemoryCache([1000, 5])
    batches = LatentBatches(cache, order=Once(0, cache.counts), seed=0)
    assert list(buckets_in_words(batches, [Share(8, 8), Share(8, 4)])) == [
        "  bucket 16x8 px: 1,000 pictures, 8 x 1 accumulated",
        "  bucket 16x16 px: 5 pictures, 4 x 2 accumulated",
        "5 pictures of 16x16 px do not fill a global batch of 8, which shows each up to 2 times",
    ]
    alone = LatentBatches(MemoryCache([8]), order=Once(0, [8]), seed=0)
    assert list(buckets_in_words(alone, [Share(8, 8)])) == []
