"""What a run reads and says of it: held-out blocks of every rank, and buckets in words."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from ldm.apps.training_data import HeldOutBlocks, buckets_in_words
from ldm.data.batches import LatentBatches
from ldm.data.order import Once, Share
from tests.data.drawn import MemoryCache

CONFIG = OmegaConf.create(
    {"devices": 2, "num_nodes": 1, "global_batch": 8, "micro_batch": None, "max_micro_pixels": 512}
)


@pytest.mark.parametrize("counts", [[10, 7], [1, 0], [3, 3]])
def test_ranks_together_read_all_held_out_samples_once(monkeypatch, counts):
    batches = LatentBatches(MemoryCache(counts), order=Once(0, counts), seed=0)
    assembly = SimpleNamespace(held_out=batches, held_out_block=None)
    read, seen = [], []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        for batch in HeldOutBlocks(assembly, CONFIG, see=seen.append):  # type: ignore[arg-type]
            bucket = int(batch.code[0, 0, 0, 0])
            assert len(batch.index) <= (4, 2)[bucket]  # 512 pixels are four of 8x16, two of 16x16
            read += [(bucket, int(row)) for row in batch.ids[:, 0]]
    assert sorted(read) == [(b, row) for b, count in enumerate(counts) for row in range(count)]
    assert sum(len(batch.index) for batch in seen) == sum(counts)


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
