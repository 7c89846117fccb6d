"""Whether the images of one class differ from each other as much as real ones do."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from ldm.features.quantise import quantise
from ldm.features.rgb import as_rgb


def areas(images: Tensor, size_px: int) -> Tensor:
    """Images (B, 3 or 1, H, W) in [-1, 1] as means of channels and areas (B, size_px, size_px)."""
    grey = as_rgb(quantise(images)).mean(1, keepdim=True)
    return functional.interpolate(grey, size=(size_px, size_px), mode="area")[:, 0]


class ClassSpread(Metric):
    """Within-class spread of generated images over that of real ones; 1 is as varied as reality.

    ``update`` takes images as their ``areas`` (B, size_px, size_px). The spread of class k
    is s_k = sqrt(sum over pixels of the unbiased variance within the class), which is the root of
    half the mean squared distance of two of its images. The value is the mean over classes of
    s_k(generated) / s_k(real). Over-guided clones have a ratio near 0. Classes with fewer than two
    images on either side, or whose real images are all equal, are left out; ValueError if that
    leaves none.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    real_count: Tensor
    real_sum: Tensor
    real_square: Tensor
    fake_count: Tensor
    fake_sum: Tensor
    fake_square: Tensor

    def __init__(self, num_classes: int, size_px: int = 8) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.size_px = size_px
        for side in ("real", "fake"):
            count = torch.zeros(num_classes, dtype=torch.int64)
            total = torch.zeros(num_classes, size_px * size_px, dtype=torch.float64)
            square = torch.zeros(num_classes, dtype=torch.float64)
            self.add_state(f"{side}_count", count, dist_reduce_fx="sum")
            self.add_state(f"{side}_sum", total, dist_reduce_fx="sum")
            self.add_state(f"{side}_square", square, dist_reduce_fx="sum")

    def update(self, areas: Tensor, classes: Sequence[int] | Tensor, *, real: bool) -> None:
        pixels = areas.flatten(1).double()
        index = torch.as_tensor(classes, device=pixels.device).long()
        member = (index[:, None] == torch.arange(self.num_classes, device=index.device)).double()
        side = "real" if real else "fake"
        getattr(self, f"{side}_count").add_(member.sum(0).long())
        getattr(self, f"{side}_sum").add_(member.T @ pixels)
        getattr(self, f"{side}_square").add_(member.T @ pixels.square().sum(1))

    def per_class(self) -> Tensor:
        """The ratio of each class (num_classes,), NaN where it is not defined."""
        real = _spread(self.real_count, self.real_sum, self.real_square)
        fake = _spread(self.fake_count, self.fake_sum, self.fake_square)
        return torch.where(real > 0, fake / real, torch.nan)

    def compute(self) -> Tensor:
        ratios = self.per_class()
        if bool(ratios.isnan().all()):
            raise ValueError(
                "The class spread needs a class with at least two real (and different) and two "
                "generated images; there is none. Raise num_samples."
            )
        return ratios.nanmean()


def _spread(count: Tensor, total: Tensor, square: Tensor) -> Tensor:
    """The root of the total unbiased variance per class, NaN below two images."""
    n = count.double()
    scatter = square - total.square().sum(1) / n
    # Equal images leave rounding of either sign.
    scatter = torch.where(scatter > 1e-10 * square, scatter, 0.0)
    return torch.where(count > 1, (scatter / (n - 1)).sqrt(), torch.nan)
