"""The Inception score: how sure of single pictures and how varied over all of them a classifier is.

Salimans et al. 2016. It knows no real pictures and no other classes than ImageNet's.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class InceptionScore(Metric):
    """exp of the mean divergence of p(class | picture) from p(class), over logits (B, classes).

    The mean over ``splits`` parts of a permutation and the standard deviation over them, from 1
    up to the number of classes: {"inception_score", "inception_score_std"}. Float64. The
    permutation is torch-fidelity's (numpy, seed 2020), as a part of the number's definition.
    ValueError for fewer pictures than splits.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    logits: list[Tensor]

    def __init__(self, splits: int) -> None:
        super().__init__()
        self.splits = splits
        self.add_state("logits", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor) -> None:
        self.logits.append(logits)

    def compute(self) -> dict[str, Tensor]:
        logits = dim_zero_cat(self.logits)
        require_parts(count := len(logits), self.splits)
        order = torch.from_numpy(np.random.RandomState(2020).permutation(count))
        bounds = [i * count // self.splits for i in range(self.splits + 1)]
        scores = torch.stack(
            [_score(logits[order[first:end]].double()) for first, end in pairwise(bounds)]
        )
        return {
            "inception_score": scores.mean(),
            "inception_score_std": scores.std(correction=0),
        }


def require_parts(count: int, splits: int) -> None:
    """ValueError where so few pictures cannot be taken in so many parts, or where there is none."""
    if splits < 1:
        raise ValueError(f"The Inception score takes splits of at least 1, not {splits}.")
    if count < splits:
        raise ValueError(
            f"The Inception score of {count} pictures cannot be taken in {splits} parts. Raise "
            f"num_samples to {splits} at least (published scores are of 50,000)."
        )


def _score(logits: Tensor) -> Tensor:
    """The score of one part (M, classes)."""
    log_p = logits.log_softmax(1)
    log_mean = log_p.logsumexp(0) - math.log(len(logits))
    return (log_p.exp() * (log_p - log_mean)).sum(1).mean().exp()
