"""Real processes: ranks stay in step on unequal shards and read what one process reads."""

import json
from datetime import timedelta
from itertools import chain
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ldm.data.batches import Batches, ImageBatches, LatentBatches, train_loader
from ldm.data.order import InBuckets, Share, Streamed
from ldm.data.shards.reader import ImageShards
from tests.data.drawn import MemoryCache, write_shards

GLOBAL_BATCH, STEPS = 8, 15  # five passes over 24 samples
Read = list[list[int]]  # what each step of a rank, or of a run, has read


def shares(rank: int, world_size: int, micro_batches: list[int]) -> list[Share]:
    return [Share(GLOBAL_BATCH, size, rank, world_size) for size in micro_batches]


def read(batches: Batches, parts: list[Share], steps: range, workers: int = 0) -> Read:
    """The samples of each step, as the last eight bits of what the pictures or codes say."""
    found: Read = [[] for _ in steps]
    loader = train_loader(
        batches, parts, start_step=steps.start, stop_step=steps.stop, workers=workers
    )
    for batch in loader:
        if hasattr(batch, "image"):
            seen = ((batch.image[:, 0, 0, 0] + 1.0) * 127.5).round()
        else:
            seen = 100 * batch.code[:, 0, 0, 0] + batch.code[:, 1, 0, 0]
        found[batch.step - steps.start] += seen.long().tolist()
        if dist.is_initialized():  # as gradients do: a rank with fewer batches would hang
            together = torch.tensor(batch.step)
            dist.all_reduce(together)
            assert int(together) == batch.step * dist.get_world_size()
    return found


def rank_reads(
    rank: int, world_size: int, folder: Path, batches: Batches, sizes: list[int], steps: range
) -> None:
    """The life of one rank: reads its share in step with the others, and writes what it read."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=60),
    )
    found = read(batches, shares(rank, world_size, sizes), steps, workers=rank % 2)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def ranks_read(
    folder: Path, batches: Batches, world_size: int, sizes: list[int], steps: range
) -> Read:
    """What several real processes read together, step by step."""
    folder.mkdir()
    arguments = (world_size, folder, batches, sizes, steps)
    mp.spawn(rank_reads, arguments, nprocs=world_size)
    parts = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world_size)]
    return [list(chain(*of_ranks)) for of_ranks in zip(*parts, strict=True)]


@pytest.fixture
def streamed(tmp_path) -> ImageBatches:
    """24 pictures in three unequal shards: fewer than lanes, and than ranks in a test."""
    shards = ImageShards(write_shards(tmp_path / "shards", [4, 13, 7]))
    order = Streamed(0, shards.shard_counts, GLOBAL_BATCH, 4)
    return ImageBatches(shards, order=order, size_px=8, flip=False, seed=0)


def test_two_ranks_read_unequal_shards_in_step_and_one_goes_on(streamed, tmp_path):
    alone = read(streamed, [Share(GLOBAL_BATCH, GLOBAL_BATCH)], range(STEPS))
    for first in range(0, STEPS, 3):
        assert sorted(chain(*alone[first : first + 3])) == list(range(24))
    two = ranks_read(tmp_path / "two", streamed, 2, [2], range(9))
    assert two == alone[:9]
    resumed = read(streamed, [Share(GLOBAL_BATCH, 4)], range(9, STEPS))
    assert resumed == alone[9:]


@pytest.mark.slow
def test_four_ranks_read_fewer_shards_than_there_are_ranks(streamed, tmp_path):
    alone = read(streamed, [Share(GLOBAL_BATCH, GLOBAL_BATCH)], range(STEPS))
    assert ranks_read(tmp_path / "four", streamed, 4, [1], range(2, STEPS)) == alone[2:]


@pytest.mark.slow
def test_four_ranks_read_the_same_bucket_in_every_step(tmp_path):
    counts = [30, 17, 5]
    order = InBuckets(0, counts, GLOBAL_BATCH)
    batches = LatentBatches(MemoryCache(counts), order=order, seed=0)  # type: ignore[arg-type]
    alone = read(batches, shares(0, 1, [8, 8, 8]), range(STEPS))
    assert [{number // 100 for number in step} for step in alone] == [
        {order.bucket_of(step)} for step in range(STEPS)
    ]
    assert ranks_read(tmp_path / "four", batches, 4, [2, 1, 1], range(STEPS)) == alone
