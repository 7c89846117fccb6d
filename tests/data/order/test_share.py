"""The split of a step is nothing but a split."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldm.data.order import InBuckets, OneBucket, Share, StepSampler


def read_by(share: Share, step: int) -> list[int]:
    """What one rank reads in a step."""
    return [int(i) for micro in range(share.accumulate) for i in share.indices(step, micro)]


@given(
    step=st.integers(0, 10**6),
    micro_batch=st.integers(1, 6),
    world_size=st.integers(1, 5),
    accumulate=st.integers(1, 4),
)
def test_any_split_of_a_step_reads_the_same_global_indices(
    step, micro_batch, world_size, accumulate
):
    total = micro_batch * world_size * accumulate
    whole = read_by(Share(total, total), step)
    assert whole == list(range(step * total, (step + 1) * total))
    shares = [Share(total, micro_batch, rank, world_size) for rank in range(world_size)]
    assert all(share.accumulate == accumulate for share in shares)
    # Rank after rank has a contiguous part: each index once, by exactly one rank.
    assert [i for share in shares for i in read_by(share, step)] == whole
    assert len({len(read_by(share, step)) for share in shares}) == 1


@pytest.mark.parametrize(
    "share", [(10, 4, 1), (12, 4, 2), (2, 4, 1), (4, 4, 2)], ids=lambda s: "x".join(map(str, s))
)
def test_a_global_batch_that_does_not_divide_is_refused_with_a_remedy(share):
    global_batch, micro_batch, world_size = share
    with pytest.raises(ValueError, match=f"global_batch {global_batch} .*Choose micro_batch"):
        Share(global_batch, micro_batch, 0, world_size)


def test_a_budget_of_pixels_bounds_the_micro_batch_only():
    share = Share(24, 12, 1, 2)
    assert share.within(None, (512, 512)) == share
    assert share.within(12 * 512 * 512, (512, 512)) == share  # exactly
    assert share.within(10**9, (8, 8)) == share  # never more than was asked for
    assert share.within(12 * 512 * 512 - 1, (512, 512)) == replace(share, micro_batch=6)
    assert share.within(5 * 512 * 256, (512, 256)) == replace(share, micro_batch=4)  # divides 12
    assert share.within(512 * 256, (512, 256)) == replace(share, micro_batch=1)
    with pytest.raises(ValueError, match="131,071 is less than one picture of 256x512 px.*131072"):
        share.within(512 * 256 - 1, (512, 256))


@given(per_rank=st.integers(1, 60), world_size=st.integers(1, 4), fitting=st.integers(1, 100))
def test_the_budget_takes_the_largest_micro_batch_that_divides(per_rank, world_size, fitting):
    share = Share(per_rank * world_size, per_rank, 0, world_size)
    found = share.within(fitting * 64 * 32 + 63, (64, 32)).micro_batch
    assert found <= fitting and per_rank % found == 0
    assert not any(per_rank % more == 0 for more in range(found + 1, min(fitting, per_rank) + 1))


def test_resuming_is_starting_there():
    def slots(start, stop):
        return StepSampler([Share(12, 2, 1, 2)], OneBucket(), start_step=start, stop_step=stop)

    straight = list(slots(0, 7))
    resumed = [slot for start, stop in ((0, 3), (3, 4), (4, 7)) for slot in slots(start, stop)]
    assert [(s.step, s.index.tolist()) for s in resumed] == [
        (s.step, s.index.tolist()) for s in straight
    ]
    assert len(straight) == len(slots(0, 7)) == 7 * 3
    assert {slot.micro_steps for slot in straight} == {3}
    assert len(slots(7, 7)) == len(slots(9, 7)) == 0


@given(start=st.integers(0, 30), steps=st.integers(0, 30))
def test_steps_of_larger_buckets_have_more_micro_batches(start, steps):
    buckets = InBuckets(0, [30, 50, 20], 4)
    shares = [Share(4, micro_batch, 0, 1) for micro_batch in (4, 2, 1)]
    sampler = StepSampler(shares, buckets, start_step=start, stop_step=start + steps)
    slots = list(sampler)
    assert len(slots) == len(sampler)
    for slot in slots:
        assert slot.micro_steps == (1, 2, 4)[buckets.bucket_of(slot.step)]
        assert len(slot.index) * slot.micro_steps == 4
    read = [int(i) for slot in slots for i in slot.index]
    assert read == list(range(4 * start, 4 * (start + steps)))


def test_another_world_size_goes_on_with_the_same_stream():
    two = [Share(8, 2, rank, 2) for rank in range(2)]
    before = [i for step in range(3) for share in two for i in read_by(share, step)]
    after = [i for step in range(3, 5) for i in read_by(Share(8, 4), step)]
    assert before + after == list(range(40))
