"""The denoising loss and its bins."""

import torch

from ldm.losses.denoising import by_timestep_bin, denoising_loss


def test_it_is_a_mean_per_sample_in_float32():
    prediction, target = torch.randn(2, 3, 4, 8, 8)
    expected = torch.stack([(a - b).pow(2).mean() for a, b in zip(prediction, target, strict=True)])
    torch.testing.assert_close(denoising_loss(prediction, target), expected)
    assert denoising_loss(prediction.bfloat16(), target).dtype == torch.float32


def test_bins_have_equal_width_and_add_up():
    t = torch.arange(1000)
    loss = torch.rand(1000)
    sums, counts = by_timestep_bin(loss, t, 1000)
    assert counts.tolist() == [125.0] * 8
    torch.testing.assert_close(sums, loss.view(8, 125).sum(1))
    halves = [by_timestep_bin(loss[i::2], t[i::2], 1000)[0] for i in (0, 1)]
    torch.testing.assert_close(halves[0] + halves[1], sums)


def test_the_edges_fractions_and_a_bad_sample():
    t = torch.tensor([0.0, 124.9, 125.0, 999.9, 1000.0])
    loss = torch.tensor([1.0, 1.0, 1.0, 1.0, float("nan")])
    sums, counts = by_timestep_bin(loss, t, 1000)
    assert counts.tolist() == [2, 1, 0, 0, 0, 0, 0, 2]
    assert sums[:7].tolist() == [2, 1, 0, 0, 0, 0, 0] and sums[7].isnan()
