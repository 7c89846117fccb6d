"""Whether generated pictures are copies of training pictures, judged by pictures never trained on.

A sample that lies near a training picture need not be a copy: in some data all pictures lie near
each other. So the same distance is taken of held-out pictures, which the model cannot have copied,
and a sample counts as a copy where it is as near as only the nearest of those.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ldm.metrics.notes import in_pieces

_QUERIES = 8192
_ROUNDING = 1e-6  # of the distance of equal features in float32
_TWINS = 0.01  # below this distance, cosines in float32 do not tell which feature is nearer


class Nearest(NamedTuple):
    """The nearest training picture of each query."""

    training: Tensor  # (N,) int64, its index
    distance: Tensor  # (N,) in 0..2


def nearest(queries: Tensor, training: Iterable[Tensor]) -> Nearest:
    """The nearest of the training features (B, D), block after block, to queries (N, D).

    The distance is that of the features scaled to length 1, sqrt(2 - 2 cosine). Of equally near
    ones the first. Float32, and where features are near twins in float64.
    """
    queries = functional.normalize(queries.float(), dim=1)
    index = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    distance = torch.full((len(queries),), torch.inf, device=queries.device)
    seen = 0
    for piece in in_pieces(training):
        piece = functional.normalize(piece.to(queries), dim=1)
        for first in range(0, len(queries), _QUERIES):
            some = slice(first, first + _QUERIES)
            best = (queries[some] @ piece.T).argmax(1)
            found = _distances(queries[some], piece[best])
            if bool((twins := found < _TWINS).any()):
                alike = queries[some][twins]
                best[twins] = torch.cdist(alike.double(), piece.double()).argmin(1)
                found[twins] = _distances(alike, piece[best[twins]])
            nearer = found < distance[some]
            index[some] = torch.where(nearer, best + seen, index[some])
            distance[some] = torch.where(nearer, found, distance[some])
        seen += len(piece)
    if not seen:
        raise ValueError("There are no training pictures to find the nearest of.")
    return Nearest(index, distance)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Of each row to its own; not by the cosine, which loses the digits in which copies differ."""
    return torch.linalg.vector_norm(x - y, dim=1)


class Memorisation(Metric):
    """Whether samples are copies, from distances (B,) to the nearest training picture.

    "copies" is the share of samples that are as near as the nearest ``share`` of held-out
    pictures; "copies_real" is the same share of held-out pictures, which is more than ``share``
    where they are few or duplicates of training pictures. "distance" and "distance_real" are the
    medians, "ratio" is the one over the other: 1 where samples are as far from the training
    pictures as unseen pictures are, infinite or NaN where "distance_real" is 0. ValueError where
    either side is empty, or ``share`` not between 0 and 1.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, share: float) -> None:
        super().__init__()
        require_share(share)
        self.share = share
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, distances: Tensor, *, real: bool) -> None:
        (self.real if real else self.fake).append(distances)

    def compute(self) -> dict[str, Tensor]:
        if not self.real or not self.fake:
            raise ValueError("Memorisation is judged by samples and by held-out pictures: both.")
        real, fake = dim_zero_cat(self.real).double(), dim_zero_cat(self.fake).double()
        # Rounded first: in floating point, 0.07 of 100 pictures are a little more than 7.
        order = max(math.ceil(round(self.share * len(real), 6)), 1)
        near = real.kthvalue(order).values + _ROUNDING
        distance, distance_real = fake.median(), real.median()
        return {
            "copies": (fake <= near).double().mean(),
            "copies_real": (real <= near).double().mean(),
            "distance": distance,
            "distance_real": distance_real,
            "ratio": distance / torch.where(distance_real > _ROUNDING, distance_real, 0.0),
        }


def require_share(share: float) -> None:
    """ValueError where this is no part of the held-out pictures."""
    if not 0 < share < 1:
        raise ValueError(
            f"Memorisation takes a share of held-out pictures between 0 and 1 (1 % is 0.01), not "
            f"{share}."
        )
