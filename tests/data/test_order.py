"""Order: every pass a permutation, and the split of a step nothing but a split."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ldm.data.order import Share, StepSampler, positions


def read_by(share: Share, step: int) -> list[int]:
    """What one rank reads in a step."""
    return [int(i) for micro in range(share.accumulate) for i in share.indices(step, micro)]


@given(seed=st.integers(0, 2**31), num_samples=st.integers(1, 200), passes=st.integers(0, 1000))
def test_every_pass_is_a_permutation(seed, num_samples, passes):
    index = torch.arange(passes * num_samples, (passes + 1) * num_samples)
    assert sorted(positions(seed, num_samples, index).tolist()) == list(range(num_samples))


def test_passes_seeds_and_the_seam():
    n = 100
    first, second = positions(0, n, torch.arange(n)), positions(0, n, torch.arange(n, 2 * n))
    other = positions(1, n, torch.arange(n))
    assert not torch.equal(first, second) and not torch.equal(first, other)
    assert not torch.equal(first, torch.arange(n))
    across = positions(0, n, torch.arange(n - 7, n + 9))  # one batch over the seam of two passes
    assert torch.equal(across, torch.cat([first[-7:], second[:9]]))


@given(
    seed=st.integers(0, 99),
    num_samples=st.integers(1, 500),
    index=st.lists(st.integers(0, 10**9), min_size=1, max_size=20),
)
def test_a_position_depends_on_its_own_index_only(seed, num_samples, index):
    together = positions(seed, num_samples, torch.tensor(index)).tolist()
    alone = [int(positions(seed, num_samples, torch.tensor([i]))) for i in index]
    assert together == alone and all(0 <= p < num_samples for p in together)


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
    read = [read_by(share, step) for share in shares]
    assert sorted(i for part in read for i in part) == whole  # each index once, by exactly one rank
    assert len({len(part) for part in read}) == 1


@pytest.mark.parametrize(
    "share", [(10, 4, 1), (12, 4, 2), (2, 4, 1), (4, 4, 2)], ids=lambda s: "x".join(map(str, s))
)
def test_a_global_batch_that_does_not_divide_is_refused_with_a_remedy(share):
    global_batch, micro_batch, world_size = share
    with pytest.raises(ValueError, match=f"global_batch {global_batch} .*Choose micro_batch"):
        Share(global_batch, micro_batch, 0, world_size)


def test_resuming_is_starting_there():
    share = Share(12, 2, 1, 2)
    straight = list(StepSampler(share, start_step=0, stop_step=7))
    resumed = [
        slot
        for start, stop in ((0, 3), (3, 4), (4, 7))
        for slot in StepSampler(share, start_step=start, stop_step=stop)
    ]
    assert [(s, i.tolist()) for s, i in resumed] == [(s, i.tolist()) for s, i in straight]
    assert len(straight) == len(StepSampler(share, start_step=0, stop_step=7)) == 7 * 3
    assert len(StepSampler(share, start_step=7, stop_step=7)) == 0


def test_another_world_size_goes_on_with_the_same_stream():
    two = [Share(8, 2, rank, 2) for rank in range(2)]
    before = [i for step in range(3) for share in two for i in read_by(share, step)]
    after = [i for step in range(3, 5) for i in read_by(Share(8, 4), step)]
    assert sorted(before + after) == list(range(40))
