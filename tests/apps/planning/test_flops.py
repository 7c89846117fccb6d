"""Counted operations against those of the published networks."""

import pytest
import torch
from torch import nn

from ldm.apps.compose import compose
from ldm.apps.planning.companions import Companions, companions
from ldm.apps.planning.flops import count, flops_of
from ldm.apps.planning.parts import BATCH, condition_encoder, denoiser_pass, parts_of
from ldm.features.vgg import VGG16
from tests.shipped import shipped

GIGA, TERA = 1e9, 1e12


def on_meta(group, name):
    with torch.device("meta"):
        return shipped(group, name)


def zeros(*shape, **more):
    return torch.zeros(*shape, device="meta", **more)


def within_1_percent(value):
    return pytest.approx(value, rel=0.01)


def test_a_linear_layer_a_convolution_and_attention_by_hand():
    x = zeros(BATCH, 5, 8, requires_grad=True)
    linear = nn.Linear(8, 3, device="meta")
    assert count(lambda: linear(x)) == (2 * 5 * 8 * 3, 2 * 2 * 5 * 8 * 3)
    image, conv = zeros(BATCH, 4, 6, 6), nn.Conv2d(4, 7, 3, padding=1, device="meta")
    forward = 2 * 36 * 4 * 7 * 9
    assert count(lambda: conv(image)) == (forward, forward)  # the picture needs no gradient
    q, k = zeros(BATCH, 2, 5, 4, requires_grad=True), zeros(BATCH, 2, 3, 4, requires_grad=True)
    product = 2 * 2 * 5 * 3 * 4  # two heads
    attend = torch.nn.functional.scaled_dot_product_attention
    assert count(lambda: attend(q, k, k)) == (2 * product, 4 * product)
    with torch.no_grad():
        assert count(lambda: linear(x)).backward == 0.0


@pytest.mark.parametrize(
    ("name", "size_px", "forward", "training"),
    [
        ("unet_sd1", 256, 180 * GIGA, 0.537 * TERA),
        ("unet_sd1", 512, 803 * GIGA, 2.407 * TERA),
        pytest.param("unet_sd2", 256, 181 * GIGA, 0.539 * TERA, marks=pytest.mark.slow),
        pytest.param("unet_sd1", 768, 2148 * GIGA, 6.441 * TERA, marks=pytest.mark.slow),
        pytest.param("unet_sd2", 512, 804 * GIGA, 2.409 * TERA, marks=pytest.mark.slow),
        pytest.param("unet_sd2", 768, 2149 * GIGA, 6.443 * TERA, marks=pytest.mark.slow),
    ],
)
def test_denoisers_of_stable_diffusion(name, size_px, forward, training):
    config = compose("train", ["experiment=sd1_256", f"backbone={name}", "data.root=DATA"])
    way = denoiser_pass(config, on_meta("backbone", name), (size_px // 8, size_px // 8), 77)
    found = count(way.forward)
    assert found.forward == within_1_percent(forward)
    assert found.both == within_1_percent(training)


@pytest.mark.parametrize(
    ("size_px", "encode", "decode", "training"),
    [(256, 273 * GIGA, 622 * GIGA, 2.68 * TERA), (512, 1117 * GIGA, 2515 * GIGA, 10.9 * TERA)],
)
def test_the_autoencoder_of_stable_diffusion(size_px, encode, decode, training):
    network = on_meta("autoencoder", "kl_f8")
    image, latent = zeros(BATCH, 3, size_px, size_px), zeros(BATCH, 4, size_px // 8, size_px // 8)
    with torch.no_grad():
        assert count(lambda: network.encode(image)).forward == within_1_percent(encode)
        assert count(lambda: network.decode(latent)).forward == within_1_percent(decode)
    whole = count(lambda: network.decode(network.regularizer.mode(network.encode(image))))
    assert whole.both == within_1_percent(training)


@pytest.mark.parametrize(
    ("name", "forward"), [("clip_vit_l14", 13.3 * GIGA), ("openclip_vit_h14", 45.1 * GIGA)]
)
def test_text_towers(name, forward):
    from omegaconf import OmegaConf

    from ldm.apps.config_files import config_root

    node = OmegaConf.load(config_root() / "text_encoder" / f"{name}.yaml")
    with torch.device("meta"):
        encoder = condition_encoder(node)
    ids = zeros(BATCH, 77, dtype=torch.int64)
    found = count(lambda: encoder(ids).tokens)
    assert found.forward == within_1_percent(forward) and found.backward == 0.0


def test_what_judges_pictures():
    picture = zeros(BATCH, 3, 256, 256)
    vgg = VGG16().to("meta")
    assert count(lambda: vgg(picture)[-1]).forward == within_1_percent(40 * GIGA)
    judge = on_meta("discriminator", "patch_gan")
    assert count(lambda: judge(picture)).forward == within_1_percent(6.3 * GIGA)


def test_recomputation_is_named_apart():
    words = ["experiment=demo_diffusion", "data.root=DATA"]
    config = compose("train", words)
    found = companions(config, autoencoder=None, text_encoder=None, experiment="demo_diffusion")
    plain = flops_of(parts_of(config, found), recompute=False)
    again = flops_of(parts_of(config, found), recompute=True)
    assert plain.recomputed == 0.0 and again.training == plain.training
    # All but what is in no block, and each block's last product, whose result is not needed.
    assert 0.6 * plain.forward < again.recomputed < plain.forward
    assert again.step == pytest.approx(plain.step + again.recomputed)


def test_a_step_of_the_autoencoder_stage_counts_as_its_task_computes():
    from ldm.tasks.autoencoder import AutoencoderTask, Likelihood

    words = ["experiment=demo_autoencoder", "data.root=DATA", "perceptual=lpips"]
    config = compose("train", [*words, "loss.disc_start=0", "loss.gan_start=0"])
    parts = parts_of(config, Companions())
    found = flops_of(parts, recompute=False)
    assert {*found.beside} == {"perceptual", "discriminator"}
    with torch.device("meta"):
        from ldm.apps.build import build

        task = AutoencoderTask(
            autoencoder=parts.product, likelihood=Likelihood(),
            discriminator=parts.learns_beside["discriminator"],
            perceptual=parts.frozen["perceptual"], weights=build(config.loss), trained={}, seed=0,
        )  # fmt: skip
        task.step = 300
        image, noise = zeros(BATCH, 3, 32, 32), zeros(BATCH, 4, 8, 8)

        def step():
            reconstruction, code = task.autoencoder(image, noise)
            loss, _ = task.generator_loss(image, reconstruction, code)
            more, _ = task.discriminator_loss(image, reconstruction)
            return loss + more

        assert count(step).both == pytest.approx(found.step, rel=0.01)
