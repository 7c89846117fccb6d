"""The Frechet distance of two sets of pictures in a feature space (Heusel et al. 2017)."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from ldm.metrics.notes import in_pieces

NAMED_FROM = 10_000


def frechet_name(name: str, count: int) -> str:
    """How a Frechet distance of ``count`` samples is called: FID-256, and FID from 10,000 on.

    It is biased upwards by an amount that depends on the number of samples (Chong & Forsyth
    2020), so that values of different numbers are values of different quantities.
    """
    return name if count >= NAMED_FROM else f"{name}-{count}"


@dataclass(frozen=True, eq=False)
class Moments:
    """What the Frechet distance needs of a set of features, in float64."""

    mean: Tensor  # (D,)
    covariance: Tensor  # (D, D), with the divisor count - 1
    count: int | None  # None where published statistics do not say it


def moments(blocks: Iterable[Tensor]) -> Moments:
    """The moments of features (B, D) that come block after block; ValueError below two rows."""
    sums = None
    for features in in_pieces(blocks):
        if sums is None:
            sums = _no_sums(features.shape[1])
        _add(sums, features)
    if sums is None:
        raise ValueError("There are no features to take mean and covariance of.")
    return _moments(sums)


class FrechetDistance(Metric):
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of real and generated features (B, num_features).

    With the Inception's features this is FID. For programs that hold features themselves;
    ``ldm evaluate`` computes the same of ``moments``, which also come of files. ``compute`` raises
    ValueError for too few rows on either side, see ``require_enough``.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    real: Tensor
    fake: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        for side in ("real", "fake"):
            self.add_state(side, _no_sums(num_features), dist_reduce_fx=_merged)

    def update(self, features: Tensor, *, real: bool) -> None:
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise ValueError(
                f"The features have shape {tuple(features.shape)}, but num_features="
                f"{self.num_features}; (B, {self.num_features}) is needed."
            )
        _add(self.real if real else self.fake, features)

    def compute(self) -> Tensor:
        """The distance, float64, at least 0."""
        for side, sums in (("real", self.real), ("generated", self.fake)):
            require_enough(side, _count(sums), self.num_features)
        return frechet_distance(_moments(self.real), _moments(self.fake))


def require_enough(side: str, count: int, num_features: int) -> None:
    """ValueError for fewer pictures than features, where the value says more about their number.

    The covariance of n pictures has at most rank n - 1: as many as features are the least that is
    accepted, and one more is the least for full rank.
    """
    if count < (least := max(num_features, 2)):
        remedy = "a larger reference=, or more held-out pictures by " if side == "real" else ""
        raise ValueError(
            f"{count} {side} pictures are too few for a Frechet distance over {num_features} "
            f"features: use at least {least} ({remedy}num_samples=), or the kernel distance, which "
            "is unbiased for any number of them (metrics=[kid], or kid_own in the own features)."
        )


def frechet_distance(a: Moments, b: Moments) -> Tensor:
    """The Frechet distance of two Gaussians, float64, scalar, at least 0.

    With A = F F' and B = G G', tr (A B)^1/2 is the sum of the singular values of F' G: real and
    finite also where the covariances are singular, and exact to rounding, while the roots of the
    eigenvalues of A B would turn their errors of 1e-16 into 1e-8 each.
    """
    # The trace is the same for (S A S) and (S^-1 B S^-1): both get the same diagonal here, so
    # that a direction that is small in one and large in the other is not lost in rounding.
    scale = (b.covariance.diagonal() / a.covariance.diagonal()).abs() ** 0.25
    scale = torch.where(scale.isfinite() & (scale > 0), scale, 1.0)
    scales = torch.outer(scale, scale)
    product = _factor(a.covariance * scales).T @ _factor(b.covariance / scales)
    cross = torch.linalg.svdvals(product).sum()
    trace = a.covariance.trace() + b.covariance.trace() - 2.0 * cross
    # Rounding can take the distance of equal Gaussians slightly below zero.
    return ((a.mean - b.mean).square().sum() + trace).clamp_min(0.0)


def _factor(covariance: Tensor) -> Tensor:
    """F (D, rank) with F F' = covariance; eigenvalues that are rounding alone are left out."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


# Sums are one tensor (D + 2, D) in float64: the scatter about the mean, the mean, the count. They
# are merged by the pairwise rule of Chan et al. 1983, which loses nothing where the mean is large.


def _no_sums(num_features: int) -> Tensor:
    return torch.zeros(num_features + 2, num_features, dtype=torch.float64)


def _count(sums: Tensor) -> int:
    return int(sums[-1, 0])


def _add(sums: Tensor, features: Tensor) -> None:
    """Add features (B, D) to the sums in place."""
    if not len(features):
        return
    features = features.to(sums)
    mean = features.mean(0)
    centred = features - mean
    sums[:-2].addmm_(centred.T, centred)
    _add_about(sums, mean, len(features))


def _add_about(sums: Tensor, mean: Tensor, count: int) -> None:
    """Add to the sums in place what has this mean; its own scatter is added by the caller."""
    whole = _count(sums) + count
    shift = mean - sums[-2]
    sums[:-2].addr_(shift, shift, alpha=_count(sums) * count / whole)
    sums[-2] += shift * (count / whole)
    sums[-1] = whole


def _merged(ranks: Tensor) -> Tensor:
    """The sums of all ranks (R, D + 2, D) as one."""
    whole = torch.zeros_like(ranks[0])
    for sums in ranks:
        if count := _count(sums):
            whole[:-2] += sums[:-2]
            _add_about(whole, sums[-2], count)
    return whole


def _moments(sums: Tensor) -> Moments:
    if (count := _count(sums)) < 2:
        raise ValueError(f"A covariance needs two pictures at least; there is {count}.")
    return Moments(sums[-2].clone(), sums[:-2] / (count - 1), count)
