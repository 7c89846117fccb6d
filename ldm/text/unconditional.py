"""No condition at all: pictures of one kind, made without captions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ldm.types import Condition


class Unconditional(nn.Module):
    """Any captions to ids (B, 0), and those to a condition without parts."""

    width = None
    vector_dim = None
    is_learned = False

    def tokenize(self, captions: Sequence[str]) -> Tensor:
        """ids (B, 0): nothing of a caption is kept."""
        return torch.empty(len(captions), 0, dtype=torch.int64)

    def is_truncated(self, caption: str) -> bool:
        return False

    def forward(self, ids: Tensor, sizes: Tensor | None = None) -> Condition:
        return Condition()

    def null(self, sizes: Tensor | None = None) -> Condition:
        """The same condition without parts."""
        return Condition()

    def features(self, ids: Tensor) -> Condition:
        """None."""
        return Condition()

    def null_features(self) -> Condition:
        """None."""
        return Condition()

    def with_sizes(self, features: Condition, sizes: Tensor | None) -> Condition:
        """The same condition without parts."""
        return Condition()

    def default_sizes(self, height: int, width: int, *, negative: bool = False) -> None:
        """It is told no sizes."""
        return None
