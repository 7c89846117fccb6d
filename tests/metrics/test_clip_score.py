"""The CLIP score of rows of embeddings."""

import pytest
import torch

from ldm.metrics.clip_score import ClipScore, cosines


def embeddings(count=7):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, count, 5, generator=generator).unbind()


def test_the_scales_of_a_known_case():
    image = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    text = torch.tensor([[5.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    found = 1.0, -1.0, 0.5**0.5
    torch.testing.assert_close(cosines(image, text), torch.tensor(found, dtype=torch.float64))
    metric = ClipScore()
    metric.update(image, text)
    score = {name: float(value) for name, value in metric.compute().items()}
    assert score == pytest.approx(
        {
            "raw": sum(found) / 3,
            "x100": 100 * sum(found) / 3,
            "2.5x": 2.5 * (found[0] + found[2]) / 3,  # a negative cosine counts as 0
        }
    )


def test_any_split_gives_the_same_value():
    image, text = embeddings()
    whole, first, second = ClipScore(), ClipScore(), ClipScore()
    whole.update(image, text)
    first.update(image[:2], text[:2])
    second.update(image[2:], text[2:])
    first.merge_state(second)
    assert all(state.dtype == torch.float64 for state in (whole.total, whole.above_zero))
    for name, value in whole.compute().items():
        torch.testing.assert_close(first.compute()[name], value, rtol=1e-15, atol=0)


def test_embeddings_must_be_as_many_and_of_one_width():
    image, text = embeddings()
    with pytest.raises(ValueError, match=r"\(7, 5\) and captions \(6, 5\)"):
        ClipScore().update(image, text[1:])
