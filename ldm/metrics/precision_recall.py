"""Precision and recall of generated pictures in a feature space (Kynkaanniemi et al. 2019)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

_TILE = 2**24  # distances at a time, 128 MiB in float64


class PrecisionRecall(Metric):
    """How much of what is generated looks real, and how much of what is real can be generated.

    The manifold of a set is the union of balls around its features (B, D), each reaching to the
    feature's ``neighbours``-th nearest other one. {"precision": share of generated features in
    the real manifold, "recall": share of real features in the generated one}. Distances in
    float64. ValueError for too few features to have so many neighbours.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, *, real: bool) -> None:
        (self.real if real else self.fake).append(features)

    def compute(self) -> dict[str, Tensor]:
        real, fake = dim_zero_cat(self.real).double(), dim_zero_cat(self.fake).double()
        for side, count in (("real", len(real)), ("generated", len(fake))):
            if count <= self.neighbours:
                raise ValueError(
                    f"{count} {side} pictures have no {self.neighbours} neighbours each. Precision "
                    f"and recall need {self.neighbours + 1} of them at least, and say little below "
                    "some thousands (num_samples=)."
                )
        centre = real.mean(0)  # which costs no digits and saves some
        real, fake = real - centre, fake - centre
        real_reach, fake_reach = (_reach(side, self.neighbours) for side in (real, fake))
        in_real, in_fake = [], torch.zeros(len(real), dtype=torch.bool, device=real.device)
        for tile, squared in _squared_distances(fake, real):
            in_real.append((squared <= real_reach).any(1))
            in_fake |= (squared <= fake_reach[tile, None]).any(0)
        return {"precision": torch.cat(in_real).double().mean(), "recall": in_fake.double().mean()}


def _reach(features: Tensor, neighbours: int) -> Tensor:
    """The squared distance of each to its so-manieth nearest other one, (N,)."""
    # The nearest of all is the feature itself.
    tiles = _squared_distances(features, features)
    return torch.cat([squared.kthvalue(neighbours + 1).values for _, squared in tiles])


def _squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """|x_i - y_j|^2 of (N, D) and (M, D) in tiles (some N, M); of equal features exactly 0."""
    x_square, y_square = x.square().sum(1), y.square().sum(1)
    # What remains of equal features, which samples that are all the same consist of.
    rounding = 64 * torch.finfo(x.dtype).eps * (x_square.max() + y_square.max())
    rows = max(1, _TILE // len(y))
    for first in range(0, len(x), rows):
        tile = slice(first, first + rows)
        squared = torch.addmm(y_square, x[tile], y.T, alpha=-2.0).add_(x_square[tile, None])
        yield tile, squared.masked_fill_(squared < rounding, 0.0)
