"""Which entries of a codebook are chosen, over all ranks."""

import torch
from torch import Tensor

from ldm.autoencoders.regularizers import Regularizer
from ldm.nn.ranks import sum_over_ranks


class CodeUsage:
    """Counts the codes chosen on this rank since the last ``totals``; idle without a codebook."""

    def __init__(self, regularizer: Regularizer) -> None:
        self.regularizer = regularizer
        self._counts: Tensor | None = None

    @torch.no_grad()
    def see(self, code: Tensor) -> None:
        """Add the codes that positions of ``code`` (B, S, h, w) choose."""
        counts = self.regularizer.counts(code)
        if counts is not None:
            self._counts = counts if self._counts is None else self._counts + counts

    def totals(self) -> Tensor | None:
        """Counts (num_codes,) over all ranks, from zero again; None if nothing was seen."""
        counts, self._counts = self._counts, None
        return None if counts is None else sum_over_ranks(counts)


def usage(counts: Tensor) -> dict[str, Tensor]:
    """The share of codes chosen at all, and the perplexity: exp of the entropy of the choice.

    Perplexity is the number of codes that would carry as much if all were chosen alike.
    """
    share = counts / counts.sum()
    return {
        "codebook_usage": (counts > 0).float().mean(),
        "codebook_perplexity": torch.special.entr(share).sum().exp(),
    }
