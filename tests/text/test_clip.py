"""The text side of CLIP: ids, states, the null caption, and towers that come back from disk."""

from pathlib import Path

import pytest
import torch

from ldm.text.clip import END_OF_TEXT, ClipText, ClipTokenizer, ClipTowers

VISION = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def towers(**changes: object) -> ClipTowers:
    torch.manual_seed(0)
    return ClipTowers(embed_dim=12, vision=VISION, text=TEXT | changes)


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


def test_states_are_those_the_contrastive_tower_projects() -> None:
    both = towers()
    encoder = ClipText(both)
    ids = encoder.tokenize(["a red circle", "two blue squares"])
    states = encoder(ids).tokens
    assert states.shape == (2, 8, 16)
    ends = (ids == END_OF_TEXT).int().argmax(dim=1)
    pooled = states[torch.arange(2), ends] @ both.model.text_projection
    torch.testing.assert_close(pooled, both.model.encode_text(ids))


def test_the_null_condition_is_the_empty_caption() -> None:
    encoder = ClipText(towers())
    torch.testing.assert_close(encoder.null().tokens, encoder(encoder.tokenize([""])).tokens)


def test_towers_come_back_from_disk(tmp_path: Path) -> None:
    before = towers()
    before.save(tmp_path)
    after = ClipTowers.load(tmp_path)
    image, ids = torch.randn(2, 3, 16, 16), before.tokenize(["a", "b"])
    for one, other in zip(before(image, ids), after(image, ids), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="is no CLIP folder"):
        ClipTowers.load(tmp_path / "elsewhere")


def test_a_misspelt_setting_of_the_towers_is_named() -> None:
    with pytest.raises(ValueError, match=r"text\.widht is no setting .* did you mean width"):
        towers(widht=3)
