"""Rules between settings: which regulariser is meant, and what a weighting leaves unlearnt."""

import re

import pytest

from ldm.apps.check import check
from ldm.apps.compose import compose
from ldm.apps.errors import UserError

AUTOENCODER = ["experiment=demo_autoencoder", "data.root=DATA"]
DIFFUSION = ["experiment=demo_diffusion", "data.root=DATA"]
OURS = "ldm.autoencoders.regularizers."
KL, PUBLISHED = {"_target_": f"{OURS}KL"}, {"num_codes": 16384, "dim": 4, "restart_rate": 0.0}


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], KL),
        (["regularizer=vq"], {"_target_": f"{OURS}VQ", "num_codes": 512, "dim": 4}),
        (["autoencoder=vq_f8"], {"_target_": f"{OURS}VQ"} | PUBLISHED),
        (["autoencoder=vq_f8", "autoencoder.regularizer.num_codes=256"], {"num_codes": 256}),
        (["autoencoder=vq_f8", "regularizer=kl"], KL),
        (["autoencoder=vq_f8", "regularizer=vq", "regularizer.num_codes=8"], {"num_codes": 8}),
        (["autoencoder=kl_f4", "regularizer=vq"], {"_target_": f"{OURS}VQ", "dim": 3}),
    ],
)
def test_the_regularizer_is_the_one_asked_for_or_the_one_brought(words, expected):
    config = compose("train", [*AUTOENCODER, *words])
    assert config.regularizer == config.autoencoder.regularizer  # the record says it twice, alike
    found = dict(config.regularizer)
    assert found | expected == found
    assert ("num_codes" in found) == found["_target_"].endswith("VQ")  # replaced, not mixed
    assert check("train", [*AUTOENCODER, *words], config_dir=None) == 0


def test_settings_of_a_regularizer_that_is_replaced_are_not_lost_in_silence():
    words = ["autoencoder=vq_f8", "regularizer=vq", "autoencoder.regularizer.num_codes=9"]
    with pytest.raises(UserError, match=r"would be lost.*; regularizer\.num_codes=9 sets it"):
        compose("train", [*AUTOENCODER, *words])
    with pytest.raises(UserError, match=r"Did you mean 'autoencoder\.regularizer\.num_codes'"):
        compose("train", [*AUTOENCODER, "autoencoder=vq_f8", "regularizer.num_codes=9"])


@pytest.mark.parametrize(
    "words, share",
    [
        ([], None),
        (["prediction=v"], None),
        (["prediction=sample"], None),
        (["schedule=linear"], None),
        (["schedule=linear", "prediction=v"], "5e-05"),
        (["schedule=linear", "prediction=sample"], "8e-06"),
        (["schedule=cosine", "prediction=v"], "3e-09"),
        (["schedule=cosine", "prediction=v", "weighting=uniform"], None),
    ],
)
def test_a_weighting_that_hardly_counts_where_sampling_begins_is_remarked_on(words, share, capsys):
    assert check("train", [*DIFFUSION, *words], config_dir=None) == 0
    said = capsys.readouterr().out
    found = re.findall(r"last step of the schedule counts (\S+) .*weighting=uniform", said)
    assert found == ([share] if share else [])


@pytest.mark.parametrize(
    "words",
    [["schedule=flow", "prediction=flow"], ["prediction=v", "schedule.zero_terminal_snr=true"]],
)
def test_a_weighting_that_does_not_count_where_sampling_begins_is_refused(words):
    with pytest.raises(UserError, match="no weight, and sampling begins there; set weighting=uni"):
        check("train", [*DIFFUSION, *words], config_dir=None)


@pytest.mark.parametrize(
    "words, said",
    [
        (["autoencoder.image_channels=1"], r"set discriminator\.in_channels=1"),
        (["autoencoder.image_channels=5", "discriminator.in_channels=5"], "say which three"),
        (["perceptual_channels=[0,1,3]"], "three channels of the autoencoder's 3"),
        (["perceptual_channels=[0,1]"], "three channels"),
    ],
)
def test_channels_that_do_not_go_together_are_named_before_any_data(words, said):
    with pytest.raises(UserError, match=said):
        check("train", [*AUTOENCODER, *words], config_dir=None)


@pytest.mark.parametrize(
    "channels, more", [(1, []), (5, ["perceptual_channels=[4,0,2]"]), (5, ["perceptual=none"])]
)
def test_other_channels_than_three(channels, more):
    parts = [f"autoencoder.image_channels={channels}", f"discriminator.in_channels={channels}"]
    assert check("train", [*AUTOENCODER, *parts, *more], config_dir=None) == 0


def test_a_discriminator_that_normalises_over_the_batch_needs_it_whole():
    batch = ["global_batch=8", "discriminator.norm=batch"]
    with pytest.raises(UserError, match=r"come in 4 passes.*set discriminator\.norm=group"):
        check("train", [*AUTOENCODER, *batch, "micro_batch=2"], config_dir=None)
    for words in ([*batch, "micro_batch=null"], ["global_batch=8", "micro_batch=2"]):
        assert check("train", [*AUTOENCODER, *words], config_dir=None) == 0
