"""The vocabulary that every floor shares: conditions and what makes them, denoisers, networks.

Shape letters: B batch, C latent channels, h w latent size, H W image size, L tokens, D width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class Condition(NamedTuple):
    """What a backbone is told about a sample beyond x and t; absent parts are None."""

    tokens: Tensor | None = None  # (B, L, D), attended to by cross-attention
    mask: Tensor | None = None  # (B, L) bool, True = real token
    vector: Tensor | None = None  # (B, V) pooled text and embedded sizes
    image: Tensor | None = None  # (B, K, h, w), concatenated to x on channels

    def map(self, transform: Callable[[Tensor], Tensor]) -> "Condition":
        """The same condition with ``transform`` applied to each part that is present."""
        return Condition(*(None if part is None else transform(part) for part in self))


Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x (B,C,h,w), t (B,)) -> x0 (B,C,h,w), the condition already bound."""


class Backbone(Protocol):
    """A network that sees noisy latents: (x (B,C,h,w), t (B,), condition) -> (B,C,h,w)."""

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor: ...


class ConditionEncoder(Protocol):
    """Captions, or the names of classes, to the condition of a network; an ``nn.Module``."""

    @property
    def width(self) -> int | None:
        """D of the tokens; None where it makes none."""
        ...

    @property
    def vector_dim(self) -> int | None:
        """V of the vector; None where it makes none."""
        ...

    @property
    def is_learned(self) -> bool:
        """Whether it is trained together with the network, or frozen."""
        ...

    def tokenize(self, captions: Sequence[str]) -> Tensor:
        """ids (B, ...) int64, the same shape for any caption; below 2^16."""
        ...

    def is_truncated(self, caption: str) -> bool:
        """Whether a caption loses words."""
        ...

    def __call__(self, ids: Tensor, sizes: Tensor | None = None) -> Condition:
        """The condition of ids (B, ...) and, where they join a vector, sizes (B, K)."""
        ...

    def null(self, sizes: Tensor | None = None) -> Condition:
        """What stands for no caption: parts with the batch of ``sizes``, or else of one."""
        ...

    def features(self, ids: Tensor) -> Condition:
        """What of the condition depends on ids (B, ...) alone, so that it may be stored."""
        ...

    def null_features(self) -> Condition:
        """The features of no caption, with a batch of one."""
        ...

    def with_sizes(self, features: Condition, sizes: Tensor | None) -> Condition:
        """The condition of features and sizes: called and ``null`` are this of the other two."""
        ...

    def default_sizes(
        self, height: int, width: int, *, negative: bool = False
    ) -> Sequence[float] | None:
        """The K sizes of a whole picture, in pixels; None where there are none to give."""
        ...
