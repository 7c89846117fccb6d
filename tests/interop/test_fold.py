"""Folded statistics are the latent scale, exactly, in both directions of the autoencoder."""

import pytest
import torch

from ldm.diffusion.latent_scale import LatentScale
from ldm.interop.fold import folded

SCALES = {
    "per channel": LatentScale([0.5, -1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 0.25]),
    "scalar": LatentScale([0.0], [5.0]),
    "shifted scalar": LatentScale([0.3], [2.0]),
}


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("factor", [1.0, 0.18215])
def test_folded_is_the_autoencoder_with_its_scale(make_model, name, factor):
    ours, scale = make_model().autoencoder.double(), SCALES[name].double()
    new = folded(ours, scale, factor=factor)
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 32, 24, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.randn(2, 4, 4, 3, generator=generator, dtype=torch.float64)
    code, new_code = ours.encode(image), new.encode(image)
    # The mean, and any draw from the posterior: the logvar is folded too.
    for draw in (torch.zeros_like(noise), noise):
        raw = ours.regularizer.draw(code, draw)
        assert raw.std() > 0.1
        torch.testing.assert_close(
            factor * new.regularizer.draw(new_code, draw), scale.normalize(raw),
            rtol=1e-10, atol=1e-10,
        )  # fmt: skip
    torch.testing.assert_close(
        new.decode(noise / factor), ours.decode(scale.denormalize(noise)), rtol=1e-10, atol=1e-10
    )


def test_the_original_is_left_alone_and_the_identity_changes_no_bit(make_model):
    ours = make_model().autoencoder
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    folded(ours, SCALES["per channel"], factor=1.0)
    same = folded(ours, LatentScale([0.0], [1 / 0.18215]), factor=0.18215)
    for name, value in before.items():
        assert torch.equal(ours.state_dict()[name], value), name
        assert torch.equal(same.state_dict()[name], value), name


def test_only_a_gaussian_posterior_can_be_rescaled(make_model):
    ours = make_model().autoencoder
    ours.regularizer = object()
    with pytest.raises(ValueError, match="setting regularizer=object of this model has no place"):
        folded(ours, SCALES["scalar"], factor=1.0)
