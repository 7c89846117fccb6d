"""The byte-pair tokenizer of CLIP (Radford et al. 2021), from the vocabulary in open_clip."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

START_OF_TEXT, END_OF_TEXT = 49406, 49407
VOCABULARY_SIZE = 49408


class ClipTokenizer:
    """open_clip's byte-pair tokenizer: captions -> ids (B, L) int64, padded with ``pad_id``.

    open_clip pads with 0 (Stable Diffusion 2), transformers with the end token (Stable Diffusion
    1); positions after the end differ with the pad, and a UNet attends to them. Towers that are
    trained here pad with the end token, so that the token 0, "!", is nothing but that. Captions
    longer than L - 2 tokens keep their end token. ids are below 49408.
    """

    def __init__(self, context_length: int, pad_id: int = END_OF_TEXT) -> None:
        self.context_length, self.pad_id = context_length, pad_id

    def __call__(self, captions: Sequence[str]) -> Tensor:
        ids = _bpe()(list(captions), context_length=self.context_length)
        # Padding follows the first end token; a zero before it is the token "!".
        is_end = (ids == END_OF_TEXT).long()
        ended_before = is_end.cumsum(dim=1) - is_end > 0
        return torch.where(ended_before, self.pad_id, ids)

    def is_truncated(self, caption: str) -> bool:
        """Whether a caption loses words."""
        return len(_bpe().encode(caption)) > self.context_length - 2


def vocabulary() -> list[str]:
    """The tokens by their ids, the last two as transformers spells start and end of text."""
    encoder = _bpe().encoder
    tokens = sorted(encoder, key=encoder.__getitem__)
    return [*tokens[:START_OF_TEXT], "<|startoftext|>", "<|endoftext|>"]


def merges() -> list[str]:
    """The merge rules, pairs of tokens with a space between them, the first to be applied first."""
    ranks = _bpe().bpe_ranks
    return [" ".join(pair) for pair in sorted(ranks, key=ranks.__getitem__)]


def _bpe() -> Any:
    """open_clip's tokenizer, made once per process (reading its merges takes a moment)."""
    global _BPE
    if _BPE is None:
        from open_clip.tokenizer import SimpleTokenizer

        _BPE = SimpleTokenizer()
    return _BPE


_BPE: Any = None
