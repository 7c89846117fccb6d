"""Captions to ids: the padding, what is cut, and the vocabulary in the spelling of transformers."""

import torch

from ldm.text.tokenizer import END_OF_TEXT, VOCABULARY_SIZE, ClipTokenizer, merges, vocabulary


def test_ids_are_padded_with_the_end_and_a_word_before_it_is_kept() -> None:
    tokenize = ClipTokenizer(6)
    ids = tokenize(["a cat", "", "!~"])
    assert ids.shape == (3, 6) and ids.dtype == torch.int64
    assert (ids[0, 3:] == END_OF_TEXT).all() and (ids[1, 1:] == END_OF_TEXT).all()
    assert ids[2, 1] == 0  # "!" before another mark is token 0: no padding


def test_long_captions_lose_words_but_not_their_end() -> None:
    tokenize = ClipTokenizer(6)
    long = "one two three four five six"
    assert tokenize([long])[0, -1] == END_OF_TEXT
    assert tokenize.is_truncated(long) and not tokenize.is_truncated("one two three four")


def test_captions_are_cleaned_before_they_are_cut_into_tokens() -> None:
    """Which transformers' tokenizer does not do: there these captions have other ids."""
    tokenize = ClipTokenizer(12)
    plain = tokenize(["a fine cat & a dog"])
    for caption in ("A FINE Cat & a DOG", "a fine cat &amp; a dog", " a \ufb01ne  cat\n& a dog"):
        assert torch.equal(tokenize([caption]), plain), caption
    assert tokenize(["<|endoftext|>"])[0, 1] != END_OF_TEXT  # words, not the end of the caption


def test_the_vocabulary_follows_from_the_merges() -> None:
    tokens, rules = vocabulary(), merges()
    assert len(tokens) == len(set(tokens)) == VOCABULARY_SIZE
    assert tokens[END_OF_TEXT] == "<|endoftext|>" and tokens[END_OF_TEXT - 1] == "<|startoftext|>"
    # 256 bytes, each also as the end of a word, then one token per merge.
    assert tokens[512:-2] == [rule.replace(" ", "") for rule in rules]
    assert tokens[0] == "!" and tokens[256] == "!</w>"
