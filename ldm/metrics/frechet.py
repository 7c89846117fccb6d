"""The Frechet distance of two sets of images in a feature space (Heusel et al. 2017)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric

from ldm.features.quantise import quantise


class FrechetDistance(Metric):
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of the features of real and generated images.

    ``features`` maps images (B, 3, H, W) in [-1, 1] to (B, num_features); it runs in float32, the
    sums in float64. With the Inception's features this is FID, to be named with its number of
    samples. ``compute`` raises ValueError for fewer images than features on either side, where
    the covariance has no full rank and the value says more about n than about the images.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    real_sum: Tensor
    real_outer: Tensor
    real_count: Tensor
    fake_sum: Tensor
    fake_outer: Tensor
    fake_count: Tensor

    def __init__(self, features: Callable[[Tensor], Tensor], num_features: int) -> None:
        super().__init__()
        self.features = features
        self.num_features = num_features
        vector = torch.zeros(num_features, dtype=torch.float64)
        matrix = torch.zeros(num_features, num_features, dtype=torch.float64)
        for side in ("real", "fake"):
            self.add_state(f"{side}_sum", vector.clone(), dist_reduce_fx="sum")
            self.add_state(f"{side}_outer", matrix.clone(), dist_reduce_fx="sum")
            self.add_state(f"{side}_count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, *, real: bool) -> None:
        with torch.autocast(images.device.type, enabled=False):
            features = self.features(quantise(images)).double()
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise ValueError(
                f"The features have shape {tuple(features.shape)}, but num_features="
                f"{self.num_features}; (B, {self.num_features}) is needed."
            )
        side = "real" if real else "fake"
        getattr(self, f"{side}_sum").add_(features.sum(0))
        getattr(self, f"{side}_outer").add_(features.T @ features)
        getattr(self, f"{side}_count").add_(len(features))

    def compute(self) -> Tensor:
        """The distance, float64, at least 0."""
        real = self._moments("real", self.real_sum, self.real_outer, self.real_count)
        fake = self._moments("generated", self.fake_sum, self.fake_outer, self.fake_count)
        return frechet_distance(*real, *fake)

    def _moments(
        self, side: str, total: Tensor, outer: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor]:
        n = int(count)
        require_enough(side, n, self.num_features)
        mean = total / n
        return mean, (outer - n * torch.outer(mean, mean)) / (n - 1)


def require_enough(side: str, count: int, num_features: int) -> None:
    """ValueError where so few images give no covariance of full rank."""
    if count < (least := max(num_features, 2)):
        raise ValueError(
            f"{count} {side} images are too few for a Frechet distance over {num_features} "
            f"features; use at least {least} (num_samples=), or features of fewer dimensions."
        )


def frechet_distance(
    mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor
) -> Tensor:
    """The Frechet distance of two Gaussians: means (D,), covariances (D, D); scalar, at least 0.

    Both matrices are symmetric, so tr (A B)^1/2 = tr (A^1/2 B A^1/2)^1/2 comes from symmetric
    eigenvalue problems only: real and finite also where the covariances are singular.
    """
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp_min(0.0).sqrt()) @ vectors.T
    product = root @ covariance_b @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0.0).sqrt().sum()
    trace = covariance_a.trace() + covariance_b.trace() - 2.0 * cross
    # Rounding can take the distance of equal Gaussians slightly below zero.
    return ((mean_a - mean_b).square().sum() + trace).clamp_min(0.0)
