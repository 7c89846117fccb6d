"""The Gaussian posterior against torch's own distributions and float64."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ldm.autoencoders.regularizers import KL


def test_the_penalty_is_the_divergence_in_nats_per_image() -> None:
    torch.manual_seed(0)
    mean, logvar = torch.randn(2, 3, 4, 5, 5)
    code = torch.cat([mean, logvar], dim=1)
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(KL().penalty(code), expected)
    torch.testing.assert_close(KL().measures(code)["kl_per_dimension"], expected / 100)
    torch.testing.assert_close(
        KL().measures(code)["posterior_sigma"], (logvar / 2).exp().mean((1, 2, 3))
    )
    assert KL().weight(kl=1e-6, elements=196_608) == 1e-6


def test_the_prior_costs_nothing_and_digits_near_it_are_kept() -> None:
    assert float(KL().penalty(torch.zeros(1, 2, 1, 1))) == 0.0
    code = torch.tensor([0.0, 1e-3]).view(1, 2, 1, 1)
    expected = 0.5 * (math.expm1(float(code[0, 1, 0, 0])) - float(code[0, 1, 0, 0]))
    assert float(KL().penalty(code)) == pytest.approx(expected, rel=1e-3)
    big = torch.full((1, 8, 64, 64), 4.0, dtype=torch.float16)
    assert KL().penalty(big).isfinite().all()  # the sum is beyond float16


def test_codes_latents_and_the_clamp() -> None:
    raw = torch.tensor([2.0, -50.0, 3.0, 60.0]).view(2, 2, 1, 1)
    code = KL().code(raw)
    assert code.flatten().tolist() == [2.0, -30.0, 3.0, 20.0]
    assert KL().mode(code).flatten().tolist() == [2.0, 3.0]
    drawn = KL().draw(code, torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)).flatten()
    assert drawn.tolist() == pytest.approx([2.0 + math.exp(-15), 3.0 - math.exp(10)])
    assert KL().decodable(drawn) is drawn and KL().counts(code) is None
