"""The codebook against the paper's formulas in float64."""

import copy

import pytest
import torch
from torch import Tensor

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import VQ


def make(**changes: object) -> VQ:
    torch.manual_seed(0)
    settings = {"num_codes": 7, "dim": 3, "beta": 0.25, "loss_weight": 1.0, "restart_rate": 0.0}
    return VQ(**settings | changes)  # type: ignore[arg-type]


def spread(vq: VQ) -> VQ:
    """The same codebook with its codes far apart."""
    torch.nn.init.normal_(vq.embedding.weight)
    return vq


def by_hand(vq: VQ, z: Tensor) -> Tensor:
    """The index of the nearest code at every position, by all differences in float64."""
    codes = vq.embedding.weight.detach().double()
    difference = z.detach().double()[:, None] - codes[None, :, :, None, None]  # (B, n, C, h, w)
    return difference.square().sum(2).argmin(1)


def test_the_codebook_begins_uniform_between_plus_and_minus_one_over_n() -> None:
    weight = make(num_codes=500, dim=8).embedding.weight.detach() * 500
    assert float(weight.abs().max()) <= 1.0
    assert float(weight.abs().max()) > 0.99 and abs(float(weight.std()) - 3**-0.5) < 0.01


def test_the_nearest_code_by_squared_distance() -> None:
    z = torch.randn(3, 3, 5, 4)
    for vq in (spread(make()), make(num_codes=999)):
        assert torch.equal(vq.nearest(z), by_hand(vq, z))
    # Codes of the first steps are tiny beside the encoder's output, and still told apart.
    tiny = make(num_codes=999)
    assert torch.equal(tiny.nearest(30.0 * z), by_hand(tiny, 30.0 * z))
    # More positions than are compared at a time; mixed precision changes nothing.
    many = torch.randn(5, 3, 32, 32)
    vq = spread(make(num_codes=50))
    assert torch.equal(vq.nearest(many), by_hand(vq, many))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vq.nearest(many), by_hand(vq, many))


def test_the_gradient_passes_straight_through_to_the_encoder_alone() -> None:
    vq = spread(make()).double()
    z = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    latent = vq.decodable(z)
    expected = vq.embedding.weight[by_hand(vq, z)].movedim(-1, 1)
    torch.testing.assert_close(latent, expected, rtol=0.0, atol=1e-12)
    incoming = torch.randn_like(latent)
    latent.backward(incoming)
    assert torch.equal(z.grad, incoming)  # type: ignore[arg-type]
    assert vq.embedding.weight.grad is None


def test_beta_weighs_the_commitment_and_not_the_codebook() -> None:
    """The original's code had it the other way round; the value is the same, gradients differ."""
    values = []
    for beta in (0.25, 1.0):
        vq = spread(make(beta=beta)).double()
        z = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
        difference = (z - vq.embedding.weight[by_hand(vq, z)].movedim(-1, 1)).detach()
        elements = 3 * 4 * 4
        penalty = vq.penalty(z)
        torch.testing.assert_close(
            penalty, (1.0 + beta) * difference.square().flatten(1).mean(1).detach()
        )
        penalty.sum().backward()
        torch.testing.assert_close(z.grad, beta * 2.0 * difference / elements)
        chosen = by_hand(vq, z).flatten()
        rows = -2.0 * difference.movedim(1, -1).flatten(0, 2) / elements
        expected = torch.zeros(7, 3, dtype=torch.float64).index_add(0, chosen, rows)
        torch.testing.assert_close(vq.embedding.weight.grad, expected)
        values.append(vq.embedding.weight.grad)
    assert torch.equal(*values)  # beta does not touch the codebook's gradient


def test_the_balance_to_a_summed_likelihood_is_the_originals() -> None:
    """Original: mean over the picture + mean over the latent. Ours is that times its elements."""
    vq = spread(make(loss_weight=0.5))
    z, error = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 16, 16)
    original = error.mean() + 0.5 * vq.penalty(z).mean()
    elements = 3 * 16 * 16
    ours = error.flatten(1).sum(1).mean()
    ours = ours + vq.weight(kl=1e-6, elements=elements) * vq.penalty(z).mean()
    torch.testing.assert_close(ours, elements * original)


def test_what_is_stored_is_not_quantised() -> None:
    vq = spread(make())
    raw, noise = torch.randn(2, 2, 3, 4, 4)
    for latent in (vq.code(raw), vq.mode(raw), vq.draw(raw, noise)):
        assert torch.equal(latent, raw)
    assert not torch.equal(vq.decodable(raw), raw)
    quantised = vq.decodable(raw)
    torch.testing.assert_close(vq.decodable(quantised), quantised)
    assert vq.measures(quantised)["quantization_error"].max() < 1e-10
    error = (raw - quantised).square().flatten(1).sum(1) / raw.square().flatten(1).sum(1)
    torch.testing.assert_close(vq.measures(raw)["quantization_error"], error)


def test_counts_of_the_codes() -> None:
    vq = spread(make())
    z = vq.embedding.weight.detach()[[0, 2, 2, 6]].view(1, 4, 1, 3).movedim(-1, 1)
    assert vq.counts(z).tolist() == [1, 0, 2, 0, 0, 0, 1]


def test_an_autoencoder_holds_the_codebook_once_and_decodes_quantised() -> None:
    vq = make(dim=5, num_codes=9)
    network = Autoencoder(
        image_channels=3, latent_channels=2, channels=[4, 8], attention=[False, False],
        mid_attention=True, layers_per_level=1, groups=2, regularizer=vq,
    )  # fmt: skip
    names = [n for n, _ in network.named_parameters() if "embedding" in n]
    assert names == ["quantize.embedding.weight"] and network.regularizer is vq
    assert [k for k in network.state_dict() if "embedding" in k] == names
    twin = copy.deepcopy(network).double()
    assert twin.regularizer is twin.quantize is not vq
    assert twin.regularizer.embedding.weight.dtype == torch.float64
    image = torch.randn(2, 3, 8, 8)
    code = network.encode(image)
    assert code.shape == (2, 5, 4, 4)  # the codebook's width, between the two 1x1 convolutions
    quantised = vq.embedding.weight[vq.nearest(code)].movedim(-1, 1)
    torch.testing.assert_close(
        network.decode(code), network.decoder(network.post_quant_conv(quantised))
    )
    reconstruction, _ = network(image, torch.randn(2, 5, 4, 4))
    torch.testing.assert_close(reconstruction, network.decode(code))
    reconstruction.square().sum().backward()
    assert float(network.encoder.conv_in.weight.grad.abs().max()) > 0.0
    assert vq.embedding.weight.grad is None  # it learns from its penalty alone


def test_a_codebook_that_cannot_be_is_refused() -> None:
    for change in ({"num_codes": 0}, {"dim": 0}, {"restart_rate": 1.5}):
        with pytest.raises(ValueError, match=next(iter(change))):
            make(**change)
