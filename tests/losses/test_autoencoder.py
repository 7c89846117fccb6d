"""The likelihood's reduction, against plain formulas and float64."""

import pytest
import torch

from ldm.autoencoders.regularizers import KL
from ldm.losses.autoencoder import reconstruction_nll


def plain(x, y, p, s, *, weight, l1=1.0, l2=0.0):
    d = (x - y).abs()
    rec = l1 * d + l2 * d**2 + weight * p.view(-1, 1, 1, 1)
    return (rec / s.exp() + s).sum() / len(x)


@pytest.mark.parametrize(("l1", "l2"), [(1.0, 0.0), (0.5, 2.0), (0.0, 1.0)])
def test_the_reduction_is_the_originals(l1, l2):
    torch.manual_seed(0)
    x, y = torch.rand(2, 3, 3, 8, 8)
    p, s = torch.rand(3), torch.tensor(0.3)
    found = reconstruction_nll(x, y, p, s, perceptual_weight=0.7, l1_weight=l1, l2_weight=l2)
    expected = plain(x.double(), y.double(), p.double(), s.double(), weight=0.7, l1=l1, l2=l2)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


def test_without_a_perceptual_term_it_is_summed_l1():
    x, y = torch.rand(2, 2, 3, 4, 4)
    found = reconstruction_nll(x, y, None, torch.tensor(0.0), perceptual_weight=1.0)
    torch.testing.assert_close(found, (x - y).abs().sum() / 2)


def test_each_term_alone_reaches_the_reconstruction_and_logvar_learns():
    x = torch.rand(2, 3, 4, 4)
    for weights in ({"l1_weight": 1.0}, {"l1_weight": 0.0, "l2_weight": 1.0}, {"l1_weight": 0.0}):
        y = torch.rand(2, 3, 4, 4, requires_grad=True)
        s = torch.tensor(0.0, requires_grad=True)
        reconstruction_nll(
            x, y, y.square().mean((1, 2, 3)), s, perceptual_weight=1.0, **weights
        ).backward()
        assert y.grad.abs().sum() > 0 and float(s.grad) != 0.0


def test_logvar_at_its_optimum_is_the_log_of_the_mean_cost():
    x, y = torch.rand(2, 2, 3, 8, 8)
    s = (x - y).abs().mean().log().requires_grad_()
    reconstruction_nll(x, y, None, s, perceptual_weight=0.0).backward()
    assert float(s.grad) == pytest.approx(0.0, abs=1e-4)


def test_the_published_weight_of_a_nat_in_terms_of_means():
    """1e-6 beside sums at 256 px, f8, is 1e-6 / 48 beside mean L1 and mean KL per latent value."""
    torch.manual_seed(0)
    x, y = torch.rand(2, 2, 3, 256, 256)
    code = torch.randn(2, 8, 32, 32)
    kl = KL()
    nll = reconstruction_nll(x, y, None, torch.tensor(0.0), perceptual_weight=1.0)
    loss = nll + kl.weight(kl=1e-6, elements=3 * 256 * 256) * kl.penalty(code).mean()
    means = (x - y).abs().mean() + 1e-6 / 48 * kl.measures(code)["kl_per_dimension"].mean()
    torch.testing.assert_close(loss, 196_608 * means)
