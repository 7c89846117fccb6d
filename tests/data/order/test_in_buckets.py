"""InBuckets: one bucket a step, each in proportion to its size, nothing lost, no state."""

import pickle
import tracemalloc
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ldm.data.order.in_buckets as module
from ldm.data.order import InBuckets, Share, Shuffled, repeats

counts = st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(sum)
quick = settings(max_examples=60)


@pytest.fixture(autouse=True, scope="module")
def short_units():
    """Units of some batches, so that little data has many."""
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "_BATCHES_PER_UNIT", 6)
    yield
    patch.undo()


def step_index(step: int, global_batch: int) -> torch.Tensor:
    return torch.arange(step * global_batch, (step + 1) * global_batch)


@settings(max_examples=20)
@given(seed=st.integers(0, 99), counts=counts, global_batch=st.integers(1, 8))
def test_a_bucket_shows_everything_once_before_anything_twice(seed, counts, global_batch):
    order = InBuckets(seed, counts, global_batch)
    read: list[list[int]] = [[] for _ in counts]
    for step in range(3 * sum(counts) // global_batch + 3):
        bucket, rows = order.place(step, step_index(step, global_batch))
        assert order.batches_before(step)[bucket] * global_batch == len(read[bucket])
        read[bucket] += rows.tolist()
    for rows, count in zip(read, counts, strict=True):
        for first in range(0, len(rows), count or 1):
            part = rows[first : first + count]
            assert len(set(part)) == len(part)
            assert len(part) < count or sorted(part) == list(range(count))


@quick
@given(
    seed=st.integers(0, 99),
    counts=counts,
    global_batch=st.integers(1, 8),
    start=st.integers(0, 10**12),
)
def test_any_step_is_the_same_asked_first_last_or_alone(seed, counts, global_batch, start):
    steps = range(start, start + 8)
    order = InBuckets(seed, counts, global_batch)
    forth = {s: order.place(s, step_index(s, global_batch)) for s in steps}
    for step in reversed(steps):  # a new one each time: as another rank or a resumed run would
        fresh = InBuckets(seed, counts, global_batch)
        bucket, rows = fresh.place(step, step_index(step, global_batch))
        assert bucket == forth[step][0] and torch.equal(rows, forth[step][1])
        before, after = fresh.batches_before(step), order.batches_before(step + 1)
        grown = [b - a for a, b in zip(before, after, strict=True)]
        assert sum(before) == step
        assert grown == [int(other == bucket) for other in range(len(counts))]


@quick
@given(
    counts=counts,
    world_size=st.integers(1, 4),
    micro=st.lists(st.sampled_from([1, 2, 4]), min_size=5, max_size=5),
    step=st.integers(0, 10**6),
)
def test_ranks_share_the_bucket_and_make_up_the_batch(counts, world_size, micro, step):
    """Also where buckets are cut into different numbers of micro-batches."""
    global_batch = 4 * world_size
    bucket, rows = InBuckets(0, counts, global_batch).place(step, step_index(step, global_batch))
    read, lengths = [], set()
    for rank in range(world_size):
        order = InBuckets(0, counts, global_batch)
        share = Share(global_batch, micro[order.bucket_of(step)], rank, world_size)
        for micro_step in range(share.accumulate):
            at, part = order.place(step, share.indices(step, micro_step))
            assert at == bucket
            read += part.tolist()
        lengths.add(share.accumulate)
    assert read == rows.tolist() and len(lengths) == 1


@quick
@given(seed=st.integers(0, 99), counts=counts, global_batch=st.integers(1, 8))
def test_shares_of_the_buckets_stay_near_those_of_their_sizes(seed, counts, global_batch):
    """Within m p (1 - p) + 2 + 2 p B of p s after s steps, for units of m batches and B buckets.

    At the edge of a unit bucket b has given floor(x_b) of sum floor(x) batches, where x_b is in
    proportion: off by at most 1 + p B. Inside, at worst its m_b batches come first, which adds
    m_b (1 - p), or last, which takes p (m - m_b); and m_b < p m + 1, m - m_b < (1 - p) m + B.
    """
    order = InBuckets(seed, counts, global_batch)
    total = sum(counts)
    batches = total / (global_batch * order.units)  # of a unit, before rounding down
    for step in range(4 * total // global_batch + 50):
        for count, given_ in zip(counts, order.batches_before(step), strict=True):
            p = count / total
            most = batches * p * (1 - p) + 2 + 2 * p * len(counts)
            assert abs(given_ - p * step) <= most


@quick
@given(seed=st.integers(0, 99), count=st.integers(1, 99), step=st.integers(0, 10**9))
def test_one_bucket_reads_as_shuffled_does(seed, count, step):
    index = step_index(step, 8)
    expected = Shuffled(seed, count).positions(index)
    assert torch.equal(InBuckets(seed, [count], 8).positions(step, index), expected)


def test_buckets_alternate_in_an_order_that_changes():
    order = InBuckets(0, [300, 300], 5)
    buckets = "".join(str(order.bucket_of(step)) for step in range(120))
    units = [buckets[i : i + 12] for i in range(0, 120, 6)]
    assert len(set(units)) > 15  # no short cycle
    assert Counter(buckets) == {"0": 60, "1": 60}
    other = InBuckets(1, [300, 300], 5)
    assert "".join(str(other.bucket_of(step)) for step in range(120)) != buckets


def test_equal_buckets_have_orders_of_their_own():
    order = InBuckets(0, [50, 50], 10)
    first: dict[int, list[int]] = {}
    for step in range(10):
        bucket, rows = order.place(step, step_index(step, 10))
        first.setdefault(bucket, rows.tolist())
    assert first[0] != first[1]


def test_a_hundred_million_samples_cost_nothing(monkeypatch):
    monkeypatch.setattr(module, "_BATCHES_PER_UNIT", 1024)
    touched = []

    def permutation(key, n, index):
        touched.append(index.numel())
        return real(key, n, index)

    import ldm.data.order.shuffled as shuffled

    real = shuffled.permutation
    monkeypatch.setattr(module, "permutation", permutation)
    monkeypatch.setattr(shuffled, "permutation", permutation)
    tracemalloc.start()
    order = InBuckets(0, [70_000_000, 20_000_000, 9_999_999, 1], 256)
    for step in (0, 10**9):
        bucket, rows = order.place(step, step_index(step, 256))
        assert rows.min() >= 0 and rows.max() < order.counts[bucket]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000 and sum(touched) < 2 * (16384 + 2048 + 4)
    assert len(pickle.dumps(order)) < 1_000_000


def test_small_buckets_and_none_at_all():
    assert repeats([100, 7, 0, 8, 3], 8) == [(1, 2), (4, 3)]
    with pytest.raises(ValueError, match="no sample in any of 2 buckets"):
        InBuckets(0, [0, 0], 4)
