"""The kernel distance of two sets of pictures in a feature space, KID (Binkowski et al. 2018)."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

_ALL_PAIRS = 8_000  # features of both sides whose kernel is computed once for all draws (400 MB)


class KernelDistance(Metric):
    """Squared maximum mean discrepancy of real and generated features (B, D), unbiased.

    The kernel is (x . y / D + 1)^3. The value is a mean over ``subsets`` draws of ``subset_size``
    features of each side (fewer where there are fewer), with the standard deviation over them:
    {"kid", "kid_std"}; where a draw is all there is, it is one, without "kid_std". There is no
    bias at any number of samples, and the value may be slightly negative. Float64; ValueError for
    fewer than two features on a side, or in a draw.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, subsets: int, subset_size: int) -> None:
        super().__init__()
        require_draws(subsets, subset_size)
        self.subsets = subsets
        self.subset_size = subset_size
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, *, real: bool) -> None:
        (self.real if real else self.fake).append(features)

    def compute(self) -> dict[str, Tensor]:
        # As one tensor each, in place of its pieces: 50,000 x 2,048 are 400 MB.
        self.real = [dim_zero_cat(self.real)]
        self.fake = [dim_zero_cat(self.fake)]
        (real,), (fake,) = self.real, self.fake
        size = size_of_subsets(self.subset_size, len(fake), len(real))
        draws = _draws(len(fake), len(real), self.subsets, size)
        if len(fake) + len(real) <= _ALL_PAIRS:
            of_fake, of_real, between = _kernels(fake.double(), real.double())
            kernels = ((of_fake[a][:, a], of_real[b][:, b], between[a][:, b]) for a, b in draws)
        else:
            kernels = (_kernels(fake[a].double(), real[b].double()) for a, b in draws)
        distances = torch.stack([_discrepancy(*each) for each in kernels])
        if len(distances) == 1:
            return {"kid": distances[0]}
        return {"kid": distances.mean(), "kid_std": distances.std(correction=0)}


def require_draws(subsets: int, subset_size: int) -> None:
    """ValueError where nothing is drawn, or too little to compare a draw with itself."""
    if subsets < 1 or subset_size < 2:
        raise ValueError(
            f"The kernel distance cannot be the mean over {subsets} draws of {subset_size} "
            "pictures: subsets is at least 1, and subset_size at least 2."
        )


def size_of_subsets(wanted: int, fake: int, real: int) -> int:
    """How many of so many features are drawn; ValueError for fewer than two on a side."""
    if min(fake, real) < 2:
        raise ValueError(
            "The kernel distance needs two pictures on each side at least; there are "
            f"{fake} generated and {real} real ones. Raise num_samples."
        )
    return min(wanted, fake, real)


def _draws(fake: int, real: int, count: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The indices of each draw on either side, as torch-fidelity draws them with its seed 2020.

    They are a part of the number's definition, not of this framework's sampling, so they come of
    numpy's generator and not of ``ldm.random``: the same features give torch-fidelity's number.
    All of both sides can be drawn in one way only, and are drawn once.
    """
    if size == fake == real:
        count = 1
    generator = np.random.RandomState(2020)
    for _ in range(count):
        some = generator.choice(fake, size, replace=False)
        others = generator.choice(real, size, replace=False)
        yield torch.from_numpy(some), torch.from_numpy(others)


def _kernels(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel within x (m, D), (m, m), within y (n, D), (n, n), and between them, (m, n)."""
    size = x.shape[1]
    return _kernel(x @ x.T, size), _kernel(y @ y.T, size), _kernel(x @ y.T, size)


def _kernel(products: Tensor, num_features: int) -> Tensor:
    """(x . y / D + 1)^3 of products x . y."""
    return (products / num_features + 1.0) ** 3


def _discrepancy(within_x: Tensor, within_y: Tensor, between: Tensor) -> Tensor:
    """The unbiased estimate of the squared discrepancy from kernels (m, m)."""
    size = len(between)
    within = sum(kernel.sum() - kernel.trace() for kernel in (within_x, within_y))
    return within / (size * (size - 1)) - 2.0 * between.sum() / size**2
