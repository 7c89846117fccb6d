"""Held-out data: every sample exactly once, in blocks of one bucket each."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.data.order import Once, Shuffled, blocks


@settings(max_examples=60)
@given(
    buckets=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=5),
    world_size=st.integers(1, 4),
)
def test_all_ranks_together_read_everything_once(buckets, world_size):
    counts, sizes = zip(*buckets, strict=True)
    order = Once(3, counts)
    whole = list(blocks(counts, sizes))
    indices = torch.cat([torch.empty(0, dtype=torch.int64), *whole])
    assert torch.equal(indices.sort().values, torch.arange(sum(counts)))
    read = []
    for rank in range(world_size):
        for index in whole[rank::world_size]:
            bucket, rows = order.place(0, index)
            assert 0 < len(rows) <= sizes[bucket]
            read += [(bucket, row) for row in rows.tolist()]
    assert sorted(read) == [(b, row) for b, count in enumerate(counts) for row in range(count)]
    assert sum(len(b) not in sizes for b in whole) <= len(counts)  # only a bucket's last is short


def test_one_bucket_is_one_pass_of_shuffled():
    index = torch.arange(20, 30)
    bucket, rows = Once(5, [64]).place(0, index)
    assert bucket == 0 and torch.equal(rows, Shuffled(5, 64).positions(index))


def test_every_bucket_is_spread_over_all_indices():
    # Timesteps are drawn by index: a bucket with a range of its own would have a noise of its own.
    for index in blocks([10, 30, 7], [10, 30, 7]):
        gaps = torch.cat([torch.tensor([-1]), index, torch.tensor([47])]).diff()
        assert gaps.max() <= 2 * 47 / len(index)
