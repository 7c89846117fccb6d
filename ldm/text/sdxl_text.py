"""The condition of Stable Diffusion XL (Podell et al. 2023): two text towers, and a vector."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ldm.nn.embedding import fourier
from ldm.ranges import Count
from ldm.text.clip import ClipText, Towers
from ldm.text.tokenizer import END_OF_TEXT
from ldm.types import Condition

SIZE_EMBEDDING_DIM = 256  # numbers that one size becomes
_AESTHETIC_SCORES = {False: 6.0, True: 2.5}  # of a good picture and, for guidance, of a bad one


class SdxlText(nn.Module):
    """CLIP towers side by side: ids (B, T, L), one row per tower, and sizes (B, K) -> Condition.

    tokens (B, L, D1 + D2) are the towers' states before the last block, without layer norm.
    vector (B, E + 256 K) is the caption pooled and projected by ``text_encoder_2`` and then the
    sizes as sinusoids, in pixels: height and width of the original picture, top and left of the
    crop, and (K = 6) height and width of the result or (K = 5, the refiner) an aesthetic score.

    ``text_encoder`` is None in the refiner. ``zero_null``: the null condition has zeros in place
    of tokens and pooled caption, as the published models, and not the encoding of "".
    ValueError for towers that do not go together.
    """

    is_learned = False

    def __init__(
        self,
        *,
        text_encoder: Towers | None,
        text_encoder_2: Towers,
        num_sizes: Count,
        zero_null: bool,
    ) -> None:
        super().__init__()
        projection = text_encoder_2.model.text_projection
        if not isinstance(projection, nn.Parameter):
            raise ValueError(
                "the second text encoder of Stable Diffusion XL needs a projection without bias "
                "(text_projection) for its pooled captions, and this tower has none."
            )
        self.text_encoder = None if text_encoder is None else ClipText(text_encoder)
        self.text_encoder_2 = ClipText(text_encoder_2)
        self.text_projection = projection  # (D2, E)
        self.num_sizes, self.zero_null = num_sizes, zero_null
        self.width = sum(tower.width for tower in self.encoders)
        self.vector_dim = projection.shape[1] + num_sizes * SIZE_EMBEDDING_DIM
        lengths = {tower.tokenize.context_length for tower in self.encoders}
        if len(lengths) > 1:
            raise ValueError(
                f"the two text encoders take captions of {' and '.join(map(str, lengths))} tokens; "
                "side by side they need the same context_length."
            )

    @property
    def encoders(self) -> list[ClipText]:
        """The towers in the order of their tokens."""
        first = [] if self.text_encoder is None else [self.text_encoder]
        return [*first, self.text_encoder_2]

    def tokenize(self, captions: Sequence[str]) -> Tensor:
        """ids (B, T, L): rows differ in what they are padded with."""
        return torch.stack([tower.tokenize(captions) for tower in self.encoders], dim=1)

    def is_truncated(self, caption: str) -> bool:
        return self.text_encoder_2.is_truncated(caption)

    def forward(self, ids: Tensor, sizes: Tensor | None = None) -> Condition:
        return self.with_sizes(self.features(ids), sizes)

    def null(self, sizes: Tensor | None = None) -> Condition:
        """What stands for no caption: one row of tokens, and a vector for each row of sizes."""
        return self.with_sizes(self.null_features(), sizes)

    def features(self, ids: Tensor) -> Condition:
        """tokens (B, L, D1 + D2), and as vector (B, E) the pooled caption."""
        *_, second = states = [
            tower.penultimate(rows)
            for tower, rows in zip(self.encoders, ids.unbind(dim=1), strict=True)
        ]
        last = self.text_encoder_2.ln_final(self.text_encoder_2.last(second))
        ends = (ids[:, -1] == END_OF_TEXT).int().argmax(dim=1)  # the first: padding may follow
        pooled = last[torch.arange(len(ids), device=ids.device), ends] @ self.text_projection
        return Condition(tokens=torch.cat(states, dim=-1), vector=pooled)

    def null_features(self) -> Condition:
        """The features of "", or zeros, with a batch of one."""
        ids = self.tokenize([""]).to(self.text_projection.device)
        if not self.zero_null:
            return self.features(ids)
        return Condition(
            tokens=self.text_projection.new_zeros(1, ids.shape[-1], self.width),
            vector=self.text_projection.new_zeros(1, self.text_projection.shape[1]),
        )

    def with_sizes(self, features: Condition, sizes: Tensor | None) -> Condition:
        """The features with the sizes (B, K) as sinusoids after the pooled caption."""
        assert sizes is not None and sizes.shape[1] == self.num_sizes
        assert features.vector is not None
        pooled = features.vector.expand(len(sizes), -1)
        embedded = fourier(sizes, SIZE_EMBEDDING_DIM).flatten(1).to(pooled.dtype)  # (B, 256 K)
        return features._replace(vector=torch.cat([pooled, embedded], dim=-1))

    def default_sizes(
        self, height: int, width: int, *, negative: bool = False
    ) -> tuple[float, ...]:
        """Those of a whole picture, which was neither scaled nor cropped."""
        whole = (height, width, 0, 0)
        return (
            (*whole, _AESTHETIC_SCORES[negative]) if self.num_sizes == 5 else (*whole, *whole[:2])
        )
