"""Attention: the written-out formula, masks, and zero starts."""

import pytest
import torch

from ldm.nn.attention import (
    Attention,
    AttentionPooling,
    SpatialAttention,
    SpatialTransformer,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide 8 channels"):
        Attention(8, context_dim=None, heads=3)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_formula_written_out(heads: int) -> None:
    attention = Attention(8, context_dim=6, heads=heads, qkv_bias=True)
    x, context = torch.randn(2, 5, 8), torch.randn(2, 3, 6)
    query, key, value = attention.to_q(x), attention.to_k(context), attention.to_v(context)
    width = 8 // heads
    parts = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        logits = query[..., part] @ key[..., part].mT / width**0.5
        parts.append(logits.softmax(-1) @ value[..., part])
    expected = attention.to_out[0](torch.cat(parts, dim=-1))
    torch.testing.assert_close(attention(x, context), expected)


def test_masked_positions_do_not_matter_and_others_do() -> None:
    attention = Attention(8, context_dim=6, heads=2)
    x, context = torch.randn(2, 5, 8), torch.randn(2, 4, 6)
    mask = torch.tensor([[True, True, False, False], [True, False, True, True]])
    out = attention(x, context, mask)
    changed = torch.where(mask[..., None], context, torch.randn(2, 4, 6))
    torch.testing.assert_close(attention(x, changed, mask), out)
    torch.testing.assert_close(attention(x[:1], context[:1, :2]), out[:1])  # as if they were cut
    assert not torch.allclose(attention(x, context), out)
    torch.testing.assert_close(attention(x, context, torch.ones_like(mask)), attention(x, context))


def test_pooling_counts_real_tokens_only() -> None:
    pool = AttentionPooling(8, heads=2)
    tokens = torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    out = pool(tokens, mask)
    assert out.shape == (2, 8)
    torch.testing.assert_close(out, pool(tokens[:, :3]))  # as if they were cut
    assert not torch.allclose(out, pool(tokens))


@pytest.mark.parametrize("linear_projection", [True, False])
def test_a_transformer_starts_as_the_identity_and_passes_the_mask_on(
    linear_projection: bool,
) -> None:
    transformer = SpatialTransformer(
        8, context_dim=6, heads=2, depth=2, groups=4, linear_projection=linear_projection
    )
    x, context = torch.randn(2, 8, 3, 5), torch.randn(2, 4, 6)
    assert torch.equal(transformer(x, context), x)
    for parameter in transformer.proj_out.parameters():
        torch.nn.init.normal_(parameter)
    mask = torch.tensor([[True, True, False, False]] * 2)
    out = transformer(x, context, mask)
    assert out.shape == x.shape
    torch.testing.assert_close(transformer(x, context[:, :2]), out, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(transformer(x, context), out, atol=1e-3)


def test_spatial_attention_mixes_positions_of_any_shape() -> None:
    attention = SpatialAttention(8, groups=4, eps=1e-6)
    x = torch.randn(1, 8, 3, 5)
    out = attention(x)
    assert out.shape == x.shape
    permuted = torch.randperm(15)
    # Without positions, attention commutes with any rearrangement of them.
    shuffled = x.flatten(2)[..., permuted].view_as(x)
    expected = out.flatten(2)[..., permuted].view_as(x)
    torch.testing.assert_close(attention(shuffled), expected, rtol=1e-4, atol=1e-5)
