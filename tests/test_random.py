"""Keyed randomness: pure, well distributed, and frozen (a resumed run must draw the same)."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.random import integers, normal, permutation, stream, uniform

KEY = stream(0, "test")
DRAWS = {
    "uniform": lambda index: uniform(KEY, index, (3, 5)),
    "normal": lambda index: normal(KEY, index, (3, 5)),
    "integers": lambda index: integers(KEY, index, 1000, (2,)),
    "permutation": lambda index: permutation(KEY, 64, index),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("split", [1, 7, 32])
def test_a_draw_depends_on_the_sample_and_not_on_its_batch(name: str, split: int) -> None:
    index = torch.arange(64).flip(0)
    whole = DRAWS[name](index)
    parts = torch.cat([DRAWS[name](part) for part in index.split(split)])
    assert torch.equal(whole, parts)


def test_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = normal(KEY, torch.arange(4), (4,))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(normal(KEY, torch.arange(4), (4,)), first)


def test_shapes_types_and_ranges() -> None:
    index = torch.arange(6)
    assert uniform(KEY, index).shape == normal(KEY, index).shape == (6,)
    assert uniform(KEY, index, (2, 3)).dtype == normal(KEY, index, (3,)).dtype == torch.float32
    assert normal(KEY, index, (3, 1)).shape == (6, 3, 1)  # an odd count of normals
    assert normal(KEY, index[:0], (2,)).shape == (0, 2)
    drawn = integers(KEY, torch.arange(2000), 7)
    assert drawn.dtype == torch.int64
    assert set(drawn.tolist()) == set(range(7))
    many = uniform(KEY, torch.arange(100_000))
    assert 0.0 < many.min() < 1e-4
    assert 1.0 - 1e-4 < many.max() < 1.0


def test_streams_are_told_apart_by_every_name_and_its_type() -> None:
    names = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0, "a", "0"), (0, "a0")]
    assert len({stream(*name) for name in names}) == len(names)  # type: ignore[arg-type]
    assert stream(0, "a", 1) == stream(0, "a", 1)
    assert -(2**63) <= stream(0, "a") < 2**63


def samples(name: str) -> dict[str, torch.Tensor]:
    """The same distribution across samples and within one sample."""
    draw = {"uniform": uniform, "normal": normal}[name]
    return {
        "across samples": draw(KEY, torch.arange(40_000)).double(),
        "within a sample": draw(KEY, torch.arange(1), (40_000,)).double().flatten(),
        "large indices": draw(KEY, torch.arange(40_000) * 12_345_678_901).double(),
    }


@pytest.mark.parametrize("where", ["across samples", "within a sample", "large indices"])
def test_distributions(where: str) -> None:
    stats = pytest.importorskip("scipy.stats")
    uniforms, normals = samples("uniform")[where], samples("normal")[where]
    # Five standard errors of mean, variance and fourth moment.
    assert uniforms.mean().item() == pytest.approx(0.5, abs=5 * (1 / 12 / 40_000) ** 0.5)
    assert normals.mean().item() == pytest.approx(0.0, abs=5 / 200)
    assert normals.var().item() == pytest.approx(1.0, abs=5 * 2**0.5 / 200)
    assert normals.pow(4).mean().item() == pytest.approx(3.0, abs=5 * 96**0.5 / 200)
    assert stats.kstest(uniforms.numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(normals.numpy(), "norm").pvalue > 1e-4


def test_neighbours_are_uncorrelated() -> None:
    n = 40_000
    index = torch.arange(n)
    columns = {
        **{f"position {i}": part for i, part in enumerate(normal(KEY, index, (4,)).T)},
        "sample i + 1": normal(KEY, index + 1, (4,))[:, 0],
        "another name": normal(stream(0, "other"), index, (4,))[:, 0],
        "another seed": normal(stream(1, "test"), index, (4,))[:, 0],
        "next step": normal(stream(0, "test", 1), index, (4,))[:, 0],
        "next key": normal(KEY + 1, index + 1, (4,))[:, 0],
    }
    for (a, x), (b, y) in itertools.combinations(columns.items(), 2):
        correlation = torch.corrcoef(torch.stack([x, y]))[0, 1].item()
        squares = torch.corrcoef(torch.stack([x.square(), y.square()]))[0, 1].item()
        assert abs(correlation) < 5 / n**0.5, (a, b)
        assert abs(squares) < 5 / n**0.5, (a, b)


@pytest.mark.parametrize("n", [*range(35), 63, 64, 65, 1000, 1024, 1025, 4097])
def test_permutation_is_a_bijection(n: int) -> None:
    shuffled = permutation(KEY, n, torch.arange(n))
    assert torch.equal(shuffled.sort().values, torch.arange(n))


@settings(max_examples=60)
@given(n=st.integers(1, 3000), seed=st.integers(-(2**40), 2**40))
def test_permutation_is_a_bijection_for_any_key(n: int, seed: int) -> None:
    shuffled = permutation(stream(seed, "order"), n, torch.arange(n))
    assert torch.equal(shuffled.sort().values, torch.arange(n))


def test_permutation_shuffles() -> None:
    n = 10_000
    index = torch.arange(n)
    first, second = (permutation(stream(0, "order", epoch), n, index) for epoch in (0, 1))
    for shuffled in (first, second):
        pair = torch.stack([index, shuffled]).double()
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 5 / n**0.5
        assert (shuffled == index).sum() < 10  # about one fixed point is expected
    assert (first == second).sum() < 10
    assert permutation(KEY, n, index.view(100, 100)).shape == (100, 100)


def test_the_first_draws_are_frozen() -> None:
    """Another value here means that no earlier run can be resumed or reproduced."""
    index = torch.arange(3)
    assert stream(0, "noise", 5) == -9101432913124182045
    torch.testing.assert_close(
        uniform(KEY, index), torch.tensor([0.28628355, 0.8244465, 0.56340843]), rtol=0, atol=1e-7
    )
    expected = torch.tensor([[1.505238, -0.485597], [-0.226112, 0.578757], [0.844548, 0.658969]])
    torch.testing.assert_close(normal(KEY, index, (2,)), expected, rtol=0, atol=1e-5)
    assert integers(KEY, index, 1000).tolist() == [236, 444, 199]
    assert permutation(KEY, 10, torch.arange(10)).tolist() == [2, 7, 1, 9, 6, 3, 5, 4, 8, 0]
