"""Rules between settings: which regulariser is meant, and what a weighting leaves unlearnt."""

import re

import pytest
import torch

from ldm.apps.check import check, obstacles
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


FSDP = ("trainer=ddp", "accelerator=cpu", "devices=2", "strategy=fsdp")
SHARED = (*FSDP, "optimizer=adamw", "channels_last=false")


@pytest.mark.parametrize(
    "words, remedy",
    [
        ((*AUTOENCODER, *FSDP), "set strategy=ddp"),
        ((*DIFFUSION, *SHARED, "devices=1"), "set devices=N, or strategy=auto"),
        ((*DIFFUSION, *SHARED, "optimizer=muon"), "set optimizer=adamw"),
        ((*DIFFUSION, *SHARED, "channels_last=true"), "set channels_last=false"),
        ((*DIFFUSION, *SHARED, "compile=true"), "set compile=false"),
        ((*DIFFUSION, *SHARED, "precision=bf16-true"), "set precision=bf16-mixed"),
        ((*AUTOENCODER, "precision=bf16-true"), "or force_precision=true"),
        ((*DIFFUSION, "precision=16-true"), "Set precision=16-mixed"),
        (("experiment=demo_text_encoder", "activation_checkpointing=true"), "text towers fit"),
    ],
)
def test_what_does_not_go_together_says_what_to_set(words, remedy):
    with pytest.raises(UserError, match=re.escape(remedy)):
        check("train", words, config_dir=None)


@pytest.mark.parametrize(
    "words", [(*DIFFUSION, *SHARED), (*AUTOENCODER, "precision=bf16-true", "force_precision=true")]
)
def test_what_goes_together_passes(words):
    assert check("train", words, config_dir=None) == 0


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_a_gpu_without_bf16_is_told_what_it_has(accelerator, monkeypatch):
    words = [*DIFFUSION, "trainer=gpu", f"accelerator={accelerator}"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    missing = [text for text in obstacles(compose("train", words)) if "bf16" in text]
    assert missing == ["this GPU has no bf16; set precision=16-mixed, or 32-true."]
    fine = compose("train", [*words, "precision=32-true"])
    assert not [text for text in obstacles(fine) if "bf16" in text]


def test_the_check_says_what_each_device_holds(capsys):
    words = [*DIFFUSION, *SHARED, "precision=32-true", "micro_batch=null", "devices=4"]
    for more, factor in (([], 0.25), (["micro_batch=4"], 0.25), (["strategy=ddp"], 1.0)):
        assert check("train", [*words, *more], config_dir=None) == 0
        line = next(x for x in capsys.readouterr().out.splitlines() if "each device" in x)
        sizes = dict(re.findall(r"(\w+) ([\d.]+) MB", line))
        weights = 4 * 1_462_212 / 1e6
        whole = 1.0 if more else 0.25
        expected = {"weights": factor, "gradients": whole, "optimizer": 2 * factor,
                    "average": factor, "holds": 4 * factor + whole}  # fmt: skip
        assert sizes.keys() == expected.keys()
        for name, share in expected.items():
            assert float(sizes[name]) == pytest.approx(share * weights, abs=0.06)
