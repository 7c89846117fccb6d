"""Published architectures: a configuration's name alone gives the published number of weights."""

from typing import Any

import diffusers
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ldm.apps.build import build
from ldm.apps.compose import compose
from ldm.apps.config_files import config_root
from ldm.autoencoders.regularizers import KL, VQ

STAGE = ["experiment=demo_autoencoder", "data.root=DATA", "size=64"]
AUTOENCODERS = {  # weights: all, encoder, decoder; stride, latent channels, codes
    "kl_f4": ((55_312_063, 22_351_238, 32_960_771), 4, 3, None),
    "kl_f8": ((83_653_863, 34_163_592, 49_490_179), 8, 4, None),
    "kl_f16": ((69_610_963, 28_265_760, 41_343_875), 16, 16, None),
    "kl_f32": ((103_880_131, 42_614_656, 61_244_803), 32, 64, None),
    "vq_f4": ((55_322_782, 22_337_411, 32_960_771), 4, 3, 8192),
    "vq_f8": ((67_717_295, 27_397_764, 40_253_955), 8, 4, 16384),
    "vq_f16": ((69_593_371, 28_155_144, 41_307_011), 16, 8, 16384),
}
RELATIVES = {  # published too, a setting or two away
    "vq-f4-noattn": (["autoencoder=vq_f4", "autoencoder.mid_attention=false"], 53_219_486),
    "vq-f8-n256": (["autoencoder=vq_f8", "autoencoder.regularizer.num_codes=256"], 67_652_783),
    "VQGAN f16 of ImageNet": (
        ["autoencoder=vq_f16", "autoencoder.latent_channels=256",
         "autoencoder.regularizer.dim=256", "autoencoder.regularizer.num_codes=1024"], 72_141_699,
    ),
}  # fmt: skip


def count(network: torch.nn.Module) -> int:
    assert all(p.is_meta for p in network.parameters())
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoder(name: str) -> None:
    weights, stride, channels, codes = AUTOENCODERS[name]
    config = compose("train", [*STAGE, f"autoencoder={name}"])
    alone = OmegaConf.load(config_root() / "autoencoder" / f"{name}.yaml")
    with torch.device("meta"):
        network, the_same = build(config.autoencoder), instantiate(alone, _convert_="all")
        code = network.encode(torch.empty(1, 3, 64, 64))
        image = network.decode(network.regularizer.mode(code))
    assert (count(network), count(network.encoder), count(network.decoder)) == weights
    assert count(the_same) == weights[0]
    side = 64 // stride
    assert code.shape == (1, channels * (1 if codes else 2), side, side)
    assert image.shape == (1, 3, 64, 64)
    assert isinstance(network.regularizer, VQ if codes else KL)
    assert getattr(network.regularizer, "num_codes", None) == codes
    if codes:  # commitment 0.25, as heavy as the likelihood's mean, no restarts
        vq = network.regularizer
        assert (vq.beta, vq.loss_weight, vq.restart_rate) == (0.25, 1.0, 0.0)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_names_and_shapes_are_diffusers(name: str) -> None:
    _, _, channels, codes = AUTOENCODERS[name]
    config = compose("train", [*STAGE, f"autoencoder={name}"]).autoencoder
    attention = ["Attn" if attends else "" for attends in config.attention]
    options: dict[str, Any] = {
        "block_out_channels": tuple(config.channels), "layers_per_block": 2,
        "latent_channels": channels,
        "down_block_types": tuple(f"{attn}DownEncoderBlock2D" for attn in attention),
        "up_block_types": tuple(f"{attn}UpDecoderBlock2D" for attn in reversed(attention)),
    }  # fmt: skip
    with torch.device("meta"):
        network = build(config)
        theirs: torch.nn.Module = (
            diffusers.VQModel(**options, num_vq_embeddings=codes)
            if codes
            else diffusers.AutoencoderKL(**options)
        )
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives(name: str) -> None:
    words, weights = RELATIVES[name]
    config = compose("train", [*STAGE, *words])
    with torch.device("meta"):
        assert count(build(config.autoencoder)) == weights


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


def test_the_default_recipe_is_the_published_one() -> None:
    """Of kl-f8, but for learn_logvar: the original's is in no optimizer and stays 0."""
    stage = ["stage=autoencoder", "data.root=DATA", "run=RUN", "size=256", "max_steps=1", "lr=1"]
    more = ["global_batch=1", "warmup_steps=0", "max_gradient_norm=1", "ema_decay=null"]
    every = ["checkpoint_every=1", "validate_every=1"]
    config = compose("train", [*stage, *more, *every, "autoencoder=kl_f8"])
    assert config.loss == {
        "_target_": "ldm.losses.autoencoder.AutoencoderWeights",
        "l1": 1.0, "l2": 0.0, "perceptual": 1.0, "kl": 1e-6, "gan": 0.5, "disc_start": 50001,
        "gan_start": 50001, "gan_ramp_steps": 0, "adaptive_limit": 1e4,
    }  # fmt: skip
    assert config.optimizer.betas == [0.5, 0.9]
    assert config.disc_lr == config.lr == 1  # as given: not times the batch or the processes
