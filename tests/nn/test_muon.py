"""Muon: near-orthogonal updates, torch's Muon and AdamW as references, and its state."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ldm.nn.muon import Muon, orthogonalize

SETTINGS = {
    "lr": 0.01, "momentum": 0.9, "iterations": 5, "adam": ["embedding"], "betas": [0.9, 0.98],
    "eps": 1e-8, "weight_decay": 0.1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def muon(network: nn.Module, **changes: object) -> Muon:
    return Muon(network.named_parameters(), **(SETTINGS | changes))


def give_gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


@pytest.mark.parametrize("shape", [(16, 24), (24, 16), (16, 16)])
def test_directions_stay_and_their_strengths_become_one(shape: tuple[int, int]) -> None:
    left, strengths, right = torch.linalg.svd(torch.randn(3, *shape), full_matrices=False)
    strengths = strengths.clamp(min=0.05 * strengths.max())  # no direction without any strength
    found = orthogonalize(left * strengths[:, None, :] @ right, iterations=5)
    inner = left.mT @ found @ right.mT  # diagonal when U and V are kept
    diagonal = inner.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6 and diagonal.max() < 1.25
    torch.testing.assert_close(inner, torch.diag_embed(diagonal), rtol=0, atol=1e-4)


def test_float64_stays_float64() -> None:
    matrices = torch.randn(2, 8, 12, dtype=torch.float64)
    found = orthogonalize(matrices, iterations=5)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), orthogonalize(matrices.float(), iterations=5))


def test_size_of_the_gradient_does_not_matter_and_zero_stays_zero() -> None:
    matrices = torch.randn(2, 8, 12)
    expected = orthogonalize(matrices, iterations=5)
    torch.testing.assert_close(orthogonalize(1e-3 * matrices, iterations=5), expected)
    assert not orthogonalize(torch.zeros(1, 8, 12), iterations=5).any()


@pytest.mark.parametrize("shape", [(16, 24), (40, 16)])
def test_matrices_move_as_torchs_muon_moves_them(shape: tuple[int, int]) -> None:
    ours, theirs = nn.ParameterDict({"w": torch.randn(shape)}), nn.Parameter(torch.empty(shape))
    theirs.data.copy_(ours["w"].data)
    optimizer = muon(ours)
    reference = torch.optim.Muon(
        [theirs], lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(3):
        before = ours["w"].detach().clone()
        give_gradients(ours, step)
        theirs.grad = ours["w"].grad.clone()
        optimizer.step()
        reference.step()
        moved = (ours["w"].detach() - before).norm()
        # Theirs is computed in bf16.
        assert (ours["w"] - theirs).detach().norm() < 0.03 * (step + 1) * moved


def test_the_rest_moves_as_adamw_moves_it() -> None:
    ours = nn.Module()
    ours.bias = nn.Parameter(torch.randn(5, dtype=torch.float64))
    ours.embedding = nn.Parameter(torch.randn(6, 4, dtype=torch.float64))
    theirs = copy.deepcopy(ours)
    optimizer = muon(ours)
    reference = torch.optim.AdamW(theirs.parameters(), 0.01, (0.9, 0.98), 1e-8, 0.1)
    for step in range(4):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step()
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_convolutions_are_matrices_in_any_memory_layout() -> None:
    convolution = nn.Conv2d(6, 4, 3, bias=False)
    flat = nn.Linear(54, 4, bias=False)
    flat.weight.data.copy_(convolution.weight.data.flatten(1))
    last = copy.deepcopy(convolution).to(memory_format=torch.channels_last)
    for network in (convolution, last, flat):
        give_gradients(convolution, 7)
        network.weight.grad = convolution.weight.grad.clone().view_as(network.weight)
        muon(network).step()
    torch.testing.assert_close(convolution.weight.flatten(1), flat.weight)
    torch.testing.assert_close(last.weight, convolution.weight)


def test_updates_have_the_size_of_adams() -> None:
    network = nn.Linear(64, 32, bias=False)
    before = network.weight.detach().clone()
    give_gradients(network, 0)
    muon(network, weight_decay=0.0).step()
    size = (network.weight.detach() - before).square().mean().sqrt()
    assert 0.8 < size / (0.2 * 0.01) < 1.2


def test_parameters_without_gradients_stay() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    optimizer = muon(network)
    give_gradients(network[0], 0)
    before = network[1].weight.detach().clone()
    optimizer.step()
    assert torch.equal(network[1].weight, before)


def test_its_state_goes_on_where_it_stopped() -> None:
    def steps(network: nn.Module, optimizer: Muon, numbers: range) -> list[Tensor]:
        for number in numbers:
            give_gradients(network, number)
            optimizer.step()
        return [p.detach().clone() for p in network.parameters()]

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    straight = copy.deepcopy(network)
    expected = steps(straight, muon(straight), range(4))
    first = muon(network)
    steps(network, first, range(2))
    second = muon(network)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for found, wanted in zip(steps(network, second, range(2, 4)), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_is_skipped_where_found_inf_says_so(value: float) -> None:
    """torch's protocol of fused optimizers: weights and state stay, and the next step is exact."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    straight = copy.deepcopy(network)
    optimizer, reference = muon(network), muon(straight)
    for number in range(4):
        give_gradients(network, number)
        if number == 2:
            before = copy.deepcopy(tree_leaves([network.state_dict(), optimizer.state_dict()]))
            for parameter in network.parameters():
                parameter.grad.view(-1)[0] = value
        optimizer.found_inf = torch.tensor(float(number == 2))
        optimizer.step()
        if number == 2:
            after = tree_leaves([network.state_dict(), optimizer.state_dict()])
            for one, other in zip(before, after, strict=True):
                assert torch.equal(one, other) if isinstance(one, Tensor) else one == other
        else:
            give_gradients(straight, number)
            reference.step()
    for found, wanted in zip(network.parameters(), straight.parameters(), strict=True):
        assert torch.equal(found, wanted)
