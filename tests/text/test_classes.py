"""Classes as one token each, with one more for none; and models without any condition."""

import pytest
import torch

from ldm.text.classes import MAX_CLASSES, ClassNames, ClassTable
from ldm.text.unconditional import Unconditional


def test_a_class_is_one_token_and_none_is_one_more() -> None:
    table = ClassTable(names=["cat", "dog"], width=6)
    ids = table.tokenize(["dog", "", "cat"])
    assert ids.tolist() == [[1], [2], [0]]
    tokens = table(ids).tokens
    assert tokens.shape == (3, 1, 6)
    torch.testing.assert_close(tokens[:, 0], table.embedding.weight[[1, 2, 0]])
    torch.testing.assert_close(table.null().tokens, tokens[1:2])
    assert table.is_learned and table.width == 6


def test_an_unknown_class_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="'dgo' is none of the 2 classes .* did you mean 'dog'"):
        ClassNames(["cat", "dog"])(["dgo"])
    with pytest.raises(ValueError, match="65,536 classes are more than 65,535: these are captions"):
        ClassNames([str(i) for i in range(MAX_CLASSES + 1)])


def test_without_a_condition_nothing_of_a_caption_is_kept() -> None:
    encoder = Unconditional()
    ids = encoder.tokenize(["a cat", ""])
    assert ids.shape == (2, 0)
    assert all(part is None for part in (*encoder(ids), *encoder.null()))
    assert not list(encoder.parameters())
