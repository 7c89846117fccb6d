"""Precision and recall of generated pictures in a feature space (Kynkaanniemi et al. 2019)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

_TILE = 2048  # features at a time, whose distances are 32 MiB in float64


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
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
        for side, count in (("real", len(real)), ("generated", len(fake))):
            require_neighbours(side, count, self.neighbours)
        centre = real.mean(0, dtype=torch.float64)  # distances of centred features keep more digits
        real_reach = _reach(real, centre, self.neighbours)
        fake_reach = _reach(fake, centre, self.neighbours)
        in_real = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
        in_fake = torch.zeros(len(real), dtype=torch.bool, device=real.device)
        for rows, x in _tiles(fake, centre):
            for columns, y in _tiles(real, centre):
                squared = _squared_distances(x, y)
                in_real[rows] |= (squared <= real_reach[columns]).any(1)
                in_fake[columns] |= (squared <= fake_reach[rows, None]).any(0)
        return {"precision": in_real.double().mean(), "recall": in_fake.double().mean()}


def require_neighbours(side: str, count: int, neighbours: int) -> None:
    """ValueError where so few pictures have not so many neighbours, or where none is asked for."""
    if neighbours < 1:
        raise ValueError(f"Precision and recall take neighbours of at least 1, not {neighbours}.")
    if count <= neighbours:
        raise ValueError(
            f"{count} {side} pictures have no {neighbours} neighbours each. Precision and recall "
            f"need {neighbours + 1} of them at least, and say little below some thousands "
            "(num_samples=)."
        )


def _reach(features: Tensor, centre: Tensor, neighbours: int) -> Tensor:
    """The squared distance of each to its so-manieth nearest other one, (N,)."""
    # The nearest of all is the feature itself.
    nearest = torch.full((len(features), neighbours + 1), torch.inf).to(centre)

    def merge(tile: slice, squared: Tensor) -> None:
        candidates = torch.cat([nearest[tile], squared], 1)
        nearest[tile] = candidates.topk(neighbours + 1, largest=False).values

    for rows, x in _tiles(features, centre):
        for columns, y in _tiles(features, centre):
            if rows.start <= columns.start:  # the others are the same distances
                squared = _squared_distances(x, y)
                merge(rows, squared)
                if rows != columns:
                    merge(columns, squared.T)
    return nearest[:, -1]


def _tiles(features: Tensor, centre: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some features after the other, centred and in float64."""
    for first in range(0, len(features), _TILE):
        tile = slice(first, first + _TILE)
        yield tile, features[tile].double() - centre


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 of (N, D) and (M, D) in float64; of equal features exactly 0."""
    x_square, y_square = x.square().sum(1), y.square().sum(1)
    squared = torch.addmm(y_square, x, y.T, alpha=-2.0).add_(x_square[:, None])
    # What remains of equal features, which samples that are all the same consist of.
    rounding = 64 * torch.finfo(x.dtype).eps * (x_square.max() + y_square.max())
    return squared.masked_fill_(squared < rounding, 0.0)
