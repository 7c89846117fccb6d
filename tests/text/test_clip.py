"""The text side of CLIP: ids, states, the null caption, and towers that come back from disk."""

from pathlib import Path

import pytest
import torch

from ldm.text.clip import ClipText, ClipTowers
from ldm.text.clip_text_tower import ClipTextTower
from ldm.text.tokenizer import END_OF_TEXT, ClipTokenizer
from tests.shipped import shipped

VISION = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def towers(*, states: str = "last", **changes: object) -> ClipTowers:
    torch.manual_seed(0)
    text = TEXT | changes
    return ClipTowers(embed_dim=12, vision=VISION, text=text, quick_gelu=False, states=states)


def test_states_are_those_the_contrastive_tower_projects() -> None:
    both = towers()
    encoder = ClipText(both)
    ids = encoder.tokenize(["a red circle", "two blue squares"])
    states = encoder(ids).tokens
    assert states.shape == (2, 8, 16)
    ends = (ids == END_OF_TEXT).int().argmax(dim=1)
    pooled = states[torch.arange(2), ends] @ both.model.text_projection
    torch.testing.assert_close(pooled, both.model.encode_text(ids))


def test_a_caption_does_not_see_its_neighbours_nor_what_follows_it() -> None:
    """Also in a batch of as many captions as tokens, where a transposed input would go unseen."""
    encoder = ClipText(towers(layers=2)).double().requires_grad_(False)
    captions = [f"{i} red circles" for i in range(8)]
    whole = encoder(encoder.tokenize(captions)).tokens
    assert whole.shape == (8, 8, 16)
    for i, caption in enumerate(captions):
        torch.testing.assert_close(encoder(encoder.tokenize([caption])).tokens, whole[i : i + 1])
    # So padding with another token changes the states after the end token only.
    padded = ClipTokenizer(8, pad_id=0)(captions)
    is_pad = padded == 0
    assert is_pad.any(1).all() and not is_pad[:, :5].any()
    other = encoder(padded).tokens
    assert torch.equal(other[~is_pad], whole[~is_pad])
    assert float((other[is_pad] - whole[is_pad]).abs().amax(1).min()) > 0.1


def test_the_null_condition_is_the_empty_caption() -> None:
    encoder = ClipText(towers())
    torch.testing.assert_close(encoder.null().tokens, encoder(encoder.tokenize([""])).tokens)


def test_penultimate_states_are_those_open_clip_gives(tmp_path: Path) -> None:
    both = towers(states="penultimate", layers=3)
    both.save(tmp_path)
    encoder = ClipText(ClipTowers.load(tmp_path))
    ids = encoder.tokenize(["a red circle", ""])
    expected = both.model.forward_intermediates(
        text=ids, text_indices=2, normalize_intermediates=True, intermediates_only=True
    )["text_intermediates"]
    torch.testing.assert_close(encoder(ids).tokens, expected[0])
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    with pytest.raises(ValueError, match=r"states='middle' is unknown; choose last or penultimate"):
        towers(states="middle")


@pytest.mark.parametrize(
    "name, count",
    [
        ("clip_vit_l14", 123_060_480),
        ("openclip_vit_h14", 352_984_064),
        ("openclip_vit_bigg14", 694_659_840 - 1280 * 1280),
    ],
)
def test_published_text_towers_have_their_size(name: str, count: int) -> None:
    with torch.device("meta"):
        encoder = ClipText(shipped("text_encoder", name))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count


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


def test_a_text_tower_alone_is_the_text_side_of_the_towers(tmp_path: Path) -> None:
    both = ClipTowers(embed_dim=12, vision=VISION, text=TEXT, quick_gelu=True, states="last")
    alone = ClipTextTower(**TEXT, mlp_ratio=4.0, embed_dim=None, quick_gelu=True, pad_id=0)
    alone.model.load_state_dict(both.model.state_dict(), strict=False)
    ids = both.tokenize(["a red circle"])
    assert alone.tokenize([""])[0, 2] == 0 and both.tokenize([""])[0, 2] == 49407
    assert torch.equal(ClipText(alone)(ids).tokens, ClipText(both)(ids).tokens)
    exact = ClipTowers(embed_dim=12, vision=VISION, text=TEXT, quick_gelu=False, states="last")
    exact.load_state_dict(both.state_dict())
    assert not torch.equal(ClipText(exact)(ids).tokens, ClipText(both)(ids).tokens)
    both.save(tmp_path)  # which activation it is survives
    assert torch.equal(ClipText(ClipTowers.load(tmp_path))(ids).tokens, ClipText(both)(ids).tokens)
