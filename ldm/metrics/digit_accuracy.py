"""Whether generated digits can be read, by a classifier that learned from real scans only."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

SCAN_PX = 8
INK = 16.0  # scikit-learn's scans count ink from 0 to 16


def as_scans(areas: Tensor) -> Tensor:
    """Areas of images (B, 8, 8) in [-1, 1] as grey scans in 0..16.

    -1 becomes 0 and 1 becomes 16, so white ink on black gives scikit-learn's own convention.
    """
    return (areas + 1.0) * (INK / 2.0)


class DigitClassifier:
    """A support vector machine on 8 x 8 scans, with its own accuracy on scans it never saw.

    Scans are (N, 8, 8) in 0..16, with ink as high values in both sets (real scans go in as they
    are, rendered ones through ``as_scans``). ``held_out_accuracy`` is the ceiling against which
    a generated set is to be read. Deterministic. Needs scikit-learn.
    """

    def __init__(
        self,
        scans: Tensor,
        digits: Sequence[int],
        *,
        held_out_scans: Tensor,
        held_out_digits: Sequence[int],
    ) -> None:
        try:
            from sklearn.svm import SVC
        except ImportError as error:
            raise ValueError(
                "The digit classifier needs scikit-learn: pip install scikit-learn."
            ) from error
        # The kernel width that scikit-learn's documentation uses for these scans.
        self._machine: Any = SVC(C=10.0, gamma=0.001)
        self._machine.fit(_rows(scans), list(digits))
        right = self(held_out_scans) == torch.tensor(list(held_out_digits))
        self.held_out_accuracy = float(right.double().mean())

    def __call__(self, scans: Tensor) -> Tensor:
        """Scans (B, 8, 8) in 0..16 -> digits (B,) int64 on the CPU."""
        return torch.from_numpy(self._machine.predict(_rows(scans))).long()


def _rows(scans: Tensor) -> Any:
    return torch.as_tensor(scans).detach().double().cpu().reshape(len(scans), -1).numpy()


class DigitAccuracy(Metric):
    """The share of scans (B, 8, 8) in 0..16 in which the prompted digit is recognised.

    ``classify`` maps scans to digits (B,): a ``DigitClassifier``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    right: Tensor
    count: Tensor

    def __init__(self, classify: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.classify = classify
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, scans: Tensor, digits: Sequence[int] | Tensor) -> None:
        found = self.classify(scans).cpu()
        self.right += int((found == torch.as_tensor(digits).cpu()).sum())
        self.count += len(scans)

    def compute(self) -> Tensor:
        return self.right / self.count
