"""Classes as the condition: one token each, from a table that the denoiser trains with itself."""

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ldm.types import Condition

MAX_CLASSES = 2**16 - 1  # ids are stored in 16 bits, and one stands for no class


class ClassNames:
    """The names of classes: names -> ids (B, 1) int64. "" is no class, and comes after the last.

    ValueError for a name that is none of them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        if len(self.names) > MAX_CLASSES:
            raise ValueError(
                f"{len(self.names):,} classes are more than {MAX_CLASSES:,}: these are captions; "
                "use condition=text."
            )
        self._ids = {name: i for i, name in enumerate(self.names)} | {"": len(self.names)}

    def __call__(self, names: Sequence[str]) -> Tensor:
        for name in names:
            if name not in self._ids:
                close = difflib.get_close_matches(name, self.names) or self.names[:8]
                raise ValueError(
                    f"{name!r} is none of the {len(self.names)} classes of this model; did you "
                    f"mean {' or '.join(map(repr, close))}?"
                )
        return torch.tensor([[self._ids[name]] for name in names])


class ClassTable(nn.Module):
    """One learned token per class: ids (B, 1) -> Condition with tokens (B, 1, width).

    The null condition is a token of its own, learned where the class is dropped (Rombach et al.
    2022, the class-conditional ImageNet model).
    """

    vector_dim = None
    is_learned = True

    def __init__(self, *, names: Sequence[str], width: int) -> None:
        super().__init__()
        self.tokenize, self.width = ClassNames(names), width
        self.embedding = nn.Embedding(len(names) + 1, width)

    @property
    def names(self) -> list[str]:
        """The classes in the order of their ids."""
        return self.tokenize.names

    def is_truncated(self, caption: str) -> bool:
        return False

    def forward(self, ids: Tensor, sizes: Tensor | None = None) -> Condition:
        return self.features(ids)

    def null(self, sizes: Tensor | None = None) -> Condition:
        """The token of no class, with a batch of one."""
        return self.null_features()

    def features(self, ids: Tensor) -> Condition:
        """The whole condition; it changes while the table learns."""
        return Condition(tokens=self.embedding(ids))

    def null_features(self) -> Condition:
        """The token of no class, with a batch of one."""
        return self.features(self.tokenize([""]).to(self.embedding.weight.device))

    def with_sizes(self, features: Condition, sizes: Tensor | None) -> Condition:
        """The features as they are."""
        return features

    def default_sizes(self, height: int, width: int, *, negative: bool = False) -> None:
        """It is told no sizes."""
        return None
