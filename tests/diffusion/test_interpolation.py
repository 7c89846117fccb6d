"""Between noises on the sphere, between conditions on the line."""

import math

import pytest
import torch

from ldm.diffusion.interpolation import lerp, slerp
from ldm.random import normal, stream
from ldm.types import Condition

A, B = (normal(stream(0, name), torch.arange(8), (4, 32, 32)) for name in "ab")


def test_noise_keeps_its_spread_where_the_straight_line_loses_it() -> None:
    half = torch.full((8,), 0.5)
    assert slerp(A, B, half).std().item() == pytest.approx(1.0, abs=0.01)
    assert torch.lerp(A, B, 0.5).std().item() == pytest.approx(0.707, abs=0.01)
    lengths = slerp(A, B, torch.linspace(0, 1, 8)).flatten(1).norm(dim=1)
    expected = (4 * 32 * 32) ** 0.5
    torch.testing.assert_close(lengths, torch.full((8,), expected), rtol=0.03, atol=0)


def test_right_angles_turn_evenly() -> None:
    a, b = torch.eye(2, dtype=torch.float64).unsqueeze(1)
    for weight in (0.0, 0.25, 1 / 3, 0.9, 1.0):
        angle = weight * math.pi / 2
        expected = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        found = slerp(a, b, torch.tensor([weight], dtype=torch.float64))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_ends_are_met_to_the_bit_and_each_sample_has_its_weight() -> None:
    weight = torch.tensor([0.0, 1.0, 0.3, 0.0, 1.0, 0.7, 0.5, 0.1])
    mixed = slerp(A, B, weight)
    assert torch.equal(mixed[[0, 3]], A[[0, 3]]) and torch.equal(mixed[[1, 4]], B[[1, 4]])
    for i in range(8):
        alone = slerp(A[i : i + 1], B[i : i + 1], weight[i : i + 1])
        torch.testing.assert_close(mixed[i : i + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("other", [A, A * (1 + 1e-7), A + 1e-6 * B, -A])
def test_vectors_without_an_arc_take_the_line(other: torch.Tensor) -> None:
    weight = torch.full((8,), 0.25)
    found = slerp(A, other, weight)
    torch.testing.assert_close(found, torch.lerp(A, other, 0.25), rtol=1e-5, atol=1e-5)
    assert torch.equal(slerp(A, A, weight), A)


def test_conditions_mix_part_by_part() -> None:
    torch.manual_seed(0)
    masks = torch.tensor([[True, True, False], [True, False, False]])
    one, other = (
        Condition(torch.randn(3, 3, 2), mask.expand(3, 3), torch.randn(3, 5)) for mask in masks
    )
    found = lerp(one, other, torch.tensor([0.0, 1.0, 0.25], dtype=torch.float64))
    assert found.image is None
    assert found.tokens is not None and found.vector is not None and found.mask is not None
    for part, a, b in ((found.tokens, one[0], other[0]), (found.vector, one[2], other[2])):
        assert torch.equal(part[0], a[0]) and torch.equal(part[1], b[1])
        torch.testing.assert_close(part[2], 0.75 * a[2] + 0.25 * b[2])
    assert found.mask.tolist() == [masks[0].tolist(), masks[1].tolist(), [True, True, False]]
