"""The vocabulary that every floor shares: conditions, denoisers, networks.

Shape letters: B batch, C latent channels, h w latent size, H W image size, L tokens, D width.
"""

from collections.abc import Callable
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
