"""Whether images show what their prompts say, by a judge that names what it sees."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ldm.features.quantise import quantise


class PromptAccuracy(Metric):
    """The share of images whose judged attributes all equal the prompt's, and each one's share.

    ``judge`` maps images (B, 3, H, W) in [-1, 1] to B tuples with one value per name in
    ``attributes``. An expected value of None means that the prompt does not say: it always fits
    and is not counted for its attribute. ``compute`` gives {"prompt_accuracy": ...,
    "prompt_accuracy_color": ...}; an attribute that no prompt named is left out.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    all_right: Tensor
    count: Tensor
    right: Tensor
    asked: Tensor

    def __init__(
        self,
        judge: Callable[[Tensor], Sequence[Sequence[Any]]],
        attributes: Sequence[str],
    ) -> None:
        super().__init__()
        self.judge = judge
        self.attributes = tuple(attributes)
        zeros = torch.zeros(len(self.attributes), dtype=torch.int64)
        self.add_state("all_right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("right", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("asked", zeros.clone(), dist_reduce_fx="sum")

    def update(self, images: Tensor, expected: Sequence[Sequence[Any]]) -> None:
        if len(images) != len(expected):
            raise ValueError(f"{len(images)} images, but {len(expected)} prompts: one for each.")
        for seen, wanted in zip(self.judge(quantise(images)), expected, strict=True):
            asked = torch.tensor([value is not None for value in wanted])
            fits = torch.tensor([a == b for a, b in zip(seen, wanted, strict=True)]) & asked
            self.right += fits.to(self.right.device)
            self.asked += asked.to(self.asked.device)
            self.all_right += int((fits == asked).all())
            self.count += 1

    def compute(self) -> dict[str, Tensor]:
        shares = {"prompt_accuracy": self.all_right / self.count}
        for name, right, asked in zip(self.attributes, self.right, self.asked, strict=True):
            if asked > 0:
                shares[f"prompt_accuracy_{name}"] = right / asked
        return shares
