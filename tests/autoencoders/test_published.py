"""Published architectures: a configuration's name alone gives the published number of weights."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ldm.apps.build import build
from ldm.apps.check import check
from ldm.apps.compose import compose, config_root
from ldm.apps.errors import UserError
from ldm.autoencoders.regularizers import KL, VQ

STAGE = ["experiment=demo_autoencoder", "data.root=DATA", "size=64"]
AUTOENCODERS = {  # counts: the original encoders and decoders; stride, latent channels, codes
    "kl_f4": (55_312_063, 4, 3, None),
    "kl_f8": (83_653_863, 8, 4, None),
    "kl_f16": (69_610_963, 16, 16, None),
    "kl_f32": (103_880_131, 32, 64, None),
    "vq_f4": (55_322_782, 4, 3, 8192),
    "vq_f8": (67_717_295, 8, 4, 16384),
    "vq_f16": (69_593_371, 16, 8, 16384),
}


def count(network: torch.nn.Module) -> int:
    assert all(p.is_meta for p in network.parameters())
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoder(name: str) -> None:
    parameters, stride, channels, codes = AUTOENCODERS[name]
    config = compose("train", [*STAGE, f"autoencoder={name}"])
    alone = OmegaConf.load(config_root() / "autoencoder" / f"{name}.yaml")
    with torch.device("meta"):
        network, the_same = build(config.autoencoder), instantiate(alone, _convert_="all")
        code = network.encode(torch.empty(1, 3, 64, 64))
        image = network.decode(network.regularizer.mode(code))
    assert count(network) == count(the_same) == parameters
    side = 64 // stride
    assert code.shape == (1, channels * (1 if codes else 2), side, side)
    assert image.shape == (1, 3, 64, 64)
    assert isinstance(network.regularizer, VQ if codes else KL)
    assert getattr(network.regularizer, "num_codes", None) == codes


def test_attention_sits_where_the_nominal_picture_of_256_px_is_small() -> None:
    places = {"kl_f16": [16], "kl_f32": [16, 8], "vq_f8": [32], "vq_f16": [16]}
    for name in AUTOENCODERS:
        config = OmegaConf.load(config_root() / "autoencoder" / f"{name}.yaml")
        sides = [256 // 2**i for i, attends in enumerate(config.attention) if attends]
        assert sides == places.get(name, []), name
        assert config.mid_attention, name


def test_discriminator() -> None:
    config = compose("train", [*STAGE, "discriminator=patch_gan"])
    with torch.device("meta"):
        assert count(build(config.discriminator)) == 2_765_633


def test_a_published_autoencoder_takes_no_other_regularizer() -> None:
    with pytest.raises(UserError, match=r"brings its own.*kl_demo"):
        check("train", [*STAGE, "autoencoder=kl_f8", "regularizer=vq"], config_dir=None)
    assert check("train", [*STAGE, "autoencoder=vq_f16"], config_dir=None) == 0
