"""Streamed: shard after shard, everything once but what fills no batch, for any number of ranks."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ldm.data.order import Share, Streamed


@dataclass(frozen=True)
class Plan:
    """A data set in shards and the way in which it is read."""

    seed: int
    counts: list[int]
    lanes: int
    slots: int  # of a lane in a batch
    world_size: int

    @property
    def global_batch(self) -> int:
        return self.lanes * self.slots * self.world_size

    def order(self) -> Streamed:
        return Streamed(self.seed, self.counts, self.global_batch, self.lanes)


plans = st.builds(
    Plan,
    seed=st.integers(0, 99),
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    lanes=st.integers(1, 4),
    slots=st.integers(1, 3),
    world_size=st.integers(1, 4),
)
quick = settings(max_examples=60)


@quick
@given(plan=plans, number=st.integers(0, 50))
def test_a_pass_shows_each_sample_once_and_drops_less_than_a_batch(plan, number):
    assume(sum(plan.counts) >= plan.global_batch)
    order = plan.order()
    size = order.steps * plan.global_batch
    found = order.positions(torch.arange(number * size, (number + 1) * size)).tolist()
    assert len(set(found)) == len(found) and set(found) <= set(range(sum(plan.counts)))
    assert sum(plan.counts) - len(found) < plan.global_batch


@quick
@given(plan=plans, start=st.integers(0, 40))
def test_the_stream_is_that_of_one_reader_from_any_step(plan, start):
    assume(sum(plan.counts) >= plan.global_batch)
    stop = start + 6
    whole = plan.order().positions(
        torch.arange(start * plan.global_batch, stop * plan.global_batch)
    )
    micro_batch = plan.lanes * plan.slots
    ranks = [
        Share(plan.global_batch, micro_batch, r, plan.world_size) for r in range(plan.world_size)
    ]
    orders = [pickle.loads(pickle.dumps(plan.order())) for _ in ranks]
    read = [
        order.positions(share.indices(step, 0)).tolist()
        for step in range(start, stop)
        for share, order in zip(ranks, orders, strict=True)
    ]
    assert [position for part in read for position in part] == whole.tolist()
    assert {len(part) for part in read} == {micro_batch}


def test_a_lane_reads_one_shard_after_the_other():
    counts, lanes = [50] * 12, 4
    order = Streamed(0, counts, 8, lanes)
    found = order.positions(torch.arange(order.steps * 8)).view(order.steps, lanes, 2) // 50
    for lane in range(lanes):
        shards = found[:, lane].flatten()
        seen, lengths = torch.unique_consecutive(shards, return_counts=True)
        assert len(seen.unique()) == len(seen) == 3 and lengths.tolist() == [50] * 3
    # Within a shard, the samples are shuffled; in the next pass, so are the shards anew.
    inside = order.positions(torch.arange(order.steps * 8)).view(-1, lanes, 2)[:25, 0].flatten()
    assert not torch.equal(inside, inside.sort().values)
    size = order.steps * 8
    again = order.positions(torch.arange(size, 2 * size)).view(-1, lanes, 2)[:, 0].flatten() // 50
    assert (
        torch.unique_consecutive(again).tolist()
        != torch.unique_consecutive(found[:, 0].flatten()).tolist()
    )


def test_other_samples_are_dropped_in_other_passes():
    order = Streamed(0, [5, 6, 4], 8, 2)
    passes = [set(order.positions(torch.arange(e * 8, e * 8 + 8)).tolist()) for e in range(40)]
    times = [sum(i in seen for seen in passes) for i in range(15)]
    assert min(times) > 10 and max(times) < 33  # 21 +- 3.2 expected of each


def test_more_than_one_pass_in_one_call():
    order = Streamed(7, [5, 9], 4, 2)
    together = order.positions(torch.arange(40))
    apart = torch.cat([order.positions(torch.arange(i, i + 4)) for i in range(0, 40, 4)])
    assert torch.equal(together, apart)


def test_what_cannot_be_streamed_says_why():
    with pytest.raises(ValueError, match="7 samples do not fill one global batch of 8; lower"):
        Streamed(0, [3, 4], 8, 1)
    with pytest.raises(ValueError, match="5 lanes do not divide .* of 12; .*data.lanes.* 4, 6"):
        Streamed(0, [30], 12, 5)


def test_ten_thousand_shards_cost_no_more_than_their_number():
    order = Streamed(0, np.full(10_000, 10_000), 2048, 16)
    index = torch.arange(10**9 * 2048, 10**9 * 2048 + 2048)
    found = order.positions(index)
    assert len(found.unique()) == 2048 and len((found // 10_000).unique()) <= 32
    assert len(pickle.dumps(order)) < 1_000_000
