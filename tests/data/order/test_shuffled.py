"""Shuffled: every pass a permutation of its own."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.data.order import Shuffled


@given(seed=st.integers(0, 2**31), num_samples=st.integers(1, 200), passes=st.integers(0, 1000))
def test_every_pass_is_a_permutation(seed, num_samples, passes):
    index = torch.arange(passes * num_samples, (passes + 1) * num_samples)
    found = Shuffled(seed, num_samples).positions(index)
    assert sorted(found.tolist()) == list(range(num_samples))


def test_the_numbers_of_every_run_so_far():
    """Runs of earlier versions go on with the data they would have read."""
    found = Shuffled(3, 777).positions(torch.tensor([0, 1, 2, 776, 777, 10**9]))
    assert found.tolist() == [746, 472, 232, 110, 335, 56]


def test_passes_seeds_and_the_seam():
    n = 100
    order = Shuffled(0, n)
    first, second = order.positions(torch.arange(n)), order.positions(torch.arange(n, 2 * n))
    other = Shuffled(1, n).positions(torch.arange(n))
    assert not torch.equal(first, second) and not torch.equal(first, other)
    assert not torch.equal(first, torch.arange(n))
    across = order.positions(torch.arange(n - 7, n + 9))  # one batch over the seam of two passes
    assert torch.equal(across, torch.cat([first[-7:], second[:9]]))


@given(
    seed=st.integers(0, 99),
    num_samples=st.integers(1, 500),
    index=st.lists(st.integers(0, 10**9), min_size=1, max_size=20),
)
def test_a_position_depends_on_its_own_index_only(seed, num_samples, index):
    order = Shuffled(seed, num_samples)
    together = order.positions(torch.tensor(index)).tolist()
    alone = [int(order.positions(torch.tensor([i]))) for i in index]
    assert together == alone and all(0 <= p < num_samples for p in together)


@settings(max_examples=30)
@given(num_samples=st.integers(1, 20_000), batch=st.integers(1, 64), start=st.integers(0, 10**6))
def test_reading_on_is_as_reading_anew(num_samples, batch, start):
    """What is looked up ahead of a reader does not show."""
    order = Shuffled(0, num_samples)
    for first in range(start, start + 40 * batch, batch):
        index = torch.arange(first, first + batch)
        assert torch.equal(order.positions(index), Shuffled(0, num_samples).positions(index))
