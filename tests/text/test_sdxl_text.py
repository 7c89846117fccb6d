"""The condition of Stable Diffusion XL: two towers, a pooled caption, and sizes as sinusoids."""

import pytest
import torch

from ldm.nn.embedding import fourier
from ldm.text.clip import ClipText
from ldm.text.clip_text_tower import ClipTextTower
from ldm.text.sdxl_text import SdxlText
from tests.shipped import shipped

TOWER = {"context_length": 8, "vocab_size": 49408, "heads": 2, "layers": 2, "mlp_ratio": 4.0}
SIZES = torch.tensor([[64, 48, 0, 8, 32, 32], [32, 32, 0, 0, 32, 32]])


def tower(width: int, embed_dim: int | None, pad_id: int, **changes: int) -> ClipTextTower:
    settings = TOWER | {"width": width} | changes
    return ClipTextTower(**settings, embed_dim=embed_dim, quick_gelu=False, pad_id=pad_id)


def pair(*, zero_null: bool = False, **changes: object) -> SdxlText:
    torch.manual_seed(0)
    parts = {"text_encoder": tower(8, None, 49407), "text_encoder_2": tower(12, 6, 0)} | changes
    return SdxlText(**parts, num_sizes=6, zero_null=zero_null)


def test_each_tower_has_its_padding_and_its_part_of_the_tokens() -> None:
    encoder = pair()
    ids = encoder.tokenize(["a red circle", ""])
    assert ids.shape == (2, 2, 8)
    assert ids[1].tolist() == [[49406] + [49407] * 7, [49406, 49407] + [0] * 6]
    condition = encoder(ids, SIZES)
    assert condition.tokens.shape == (2, 8, 20)
    assert encoder.width == 20
    first, second = encoder.encoders
    torch.testing.assert_close(condition.tokens[..., :8], first.penultimate(ids[:, 0]))
    torch.testing.assert_close(condition.tokens[..., 8:], second.penultimate(ids[:, 1]))


def test_the_vector_is_the_pooled_caption_and_then_each_size() -> None:
    encoder = pair()
    second = encoder.text_encoder_2
    ids = encoder.tokenize(["a red circle", "a"])
    vector = encoder(ids, SIZES).vector
    assert vector.shape == (2, encoder.vector_dim) == (2, 6 + 6 * 256)
    expected = second.towers.model(ids[:, 1])  # open_clip pools at the end token, and projects
    torch.testing.assert_close(vector[:, :6], expected)
    for i in range(6):
        part = vector[:, 6 + 256 * i : 6 + 256 * (i + 1)]
        torch.testing.assert_close(part, fourier(SIZES[:, i], 256))


def test_null_is_the_empty_caption_or_zeros_and_keeps_the_sizes() -> None:
    plain, zero = pair(), pair(zero_null=True)
    null = plain.null(SIZES)
    assert null.tokens.shape == (1, 8, 20) and null.vector.shape == (2, plain.vector_dim)
    expected = plain(plain.tokenize(["", ""]), SIZES)
    torch.testing.assert_close(null.tokens, expected.tokens[:1])
    torch.testing.assert_close(null.vector, expected.vector)
    null = zero.null(SIZES)
    assert not null.tokens.any() and not null.vector[:, :6].any()
    torch.testing.assert_close(null.vector[:, 6:], expected.vector[:, 6:])


def test_towers_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a projection"):
        pair(text_encoder_2=tower(12, None, 0))
    with pytest.raises(ValueError, match="captions of 8 and 9 tokens|captions of 9 and 8 tokens"):
        pair(text_encoder=tower(8, None, 49407, context_length=9))


def test_usual_sizes_are_those_of_a_whole_picture() -> None:
    encoder = pair()
    assert encoder.default_sizes(1024, 768) == (1024, 768, 0, 0, 1024, 768)
    refiner = SdxlText(
        text_encoder=None, text_encoder_2=tower(12, 6, 0), num_sizes=5, zero_null=True
    )
    assert refiner.default_sizes(1024, 1024) == (1024, 1024, 0, 0, 6.0)
    assert refiner.default_sizes(1024, 1024, negative=True) == (1024, 1024, 0, 0, 2.5)
    assert refiner(refiner.tokenize(["a"]), torch.zeros(1, 5)).vector.shape == (1, 6 + 5 * 256)


def test_the_published_pair_has_its_size() -> None:
    with torch.device("meta"):
        encoder = shipped("text_encoder", "sdxl")
    first, second = encoder.encoders
    assert sum(p.numel() for p in first.parameters()) == 123_060_480
    projected = encoder.text_projection.numel()
    assert sum(p.numel() for p in second.parameters()) + projected == 694_659_840
    assert sum(p.numel() for p in encoder.parameters()) == 123_060_480 + 694_659_840
    assert (encoder.width, encoder.vector_dim) == (2048, 2816)
    assert isinstance(first, ClipText)
