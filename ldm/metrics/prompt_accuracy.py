"""Whether images show what their prompts say, by what a judge has seen in them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class PromptAccuracy(Metric):
    """The share of images whose judged attributes all equal the prompt's, and each one's share.

    ``update`` takes what a judge sees in B images and what is expected of them: each time B tuples
    with one value per name in ``attributes``. An expected value of None means that the prompt does
    not say: it always fits and is not counted for its attribute. ``compute`` gives
    {"prompt_accuracy": ..., "prompt_accuracy_color": ...}; an attribute that no prompt named is
    left out.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    all_right: Tensor
    count: Tensor
    right: Tensor
    asked: Tensor

    def __init__(self, attributes: Sequence[str]) -> None:
        super().__init__()
        self.attributes = tuple(attributes)
        zeros = torch.zeros(len(self.attributes), dtype=torch.int64)
        self.add_state("all_right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("right", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("asked", zeros.clone(), dist_reduce_fx="sum")

    def update(self, seen: Sequence[Sequence[Any]], expected: Sequence[Sequence[Any]]) -> None:
        if len(seen) != len(expected):
            raise ValueError(f"{len(seen)} images, but {len(expected)} prompts: one for each.")
        for shown, wanted in zip(seen, expected, strict=True):
            asked = torch.tensor([value is not None for value in wanted])
            fits = torch.tensor([a == b for a, b in zip(shown, wanted, strict=True)]) & asked
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
