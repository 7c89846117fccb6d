"""What a denoiser is assumed to be trained with, and that it is said."""

import pytest

from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.planning.companions import companions


def of(*words, experiment=None, autoencoder=None, text_encoder=None):
    config = compose("train", [*words, "data.root=DATA"])
    return companions(
        config, autoencoder=autoencoder, text_encoder=text_encoder, experiment=experiment
    )


def test_those_of_the_same_recipe():
    found = of("experiment=demo_diffusion", experiment="demo_diffusion")
    assert len(found.autoencoder.channels) == 3 and found.latents == {(8, 8): 1}
    assert found.text_encoder.text.width == 64 and found.tokens == 20


@pytest.mark.parametrize(
    ("words", "text", "tokens"),
    [
        (["experiment=sd1_256"], "clip_vit_l14", 77),
        (["experiment=sd1_256", "backbone=unet_sd2"], "openclip_vit_h14", 77),
        (["experiment=sdxl_1024"], "sdxl", 77),
        (["experiment=imagenet_256"], None, 1),
        (["experiment=sd1_256", "backbone=unet_lsun_churches"], None, 0),
    ],
)
def test_published_widths_name_published_networks(words, text, tokens):
    found = of(*words)
    assert len(found.autoencoder.channels) == 4 and found.tokens == tokens
    assert any("kl_f8, assumed; another by latents_by=NAME" in line for line in found.said)
    assert (found.text_encoder is None) == (text is None)
    assert text is None or any(f"{text}, assumed" in line for line in found.said)


def test_a_size_that_does_not_fit_what_is_assumed_is_no_mistake():
    found = of("experiment=demo_diffusion", "size=36")
    assert found.latents == {(6, 6): 1} and "does not fit what is assumed" in found.said[-1]
    with pytest.raises(UserError, match=r"size=36 does not divide by 16.*latents_by=kl_f8"):
        of("experiment=demo_diffusion", "size=36", autoencoder="kl_f8")


def test_latents_that_are_there_are_looked_at(world):
    words = [*world.settings["diffusion"], f"data.root={world.latents}"]
    config = compose("train", words)
    found = companions(config, autoencoder=None, text_encoder=None, experiment="demo_diffusion")
    assert found.images == 64 and found.latents == {(8, 8): 64} and found.tokens == 20
    config.size = 64
    other = companions(config, autoencoder=None, text_encoder=None, experiment="demo_diffusion")
    assert other.images is None and "latents of 32 px" in other.said[-1]
