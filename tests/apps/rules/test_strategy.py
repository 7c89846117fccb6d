"""Strategy, devices and precision: what does not go together says what to set."""

import re

import pytest
import torch

from ldm.apps.check import check
from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.rules import precision, strategy
from ldm.apps.rules.case import Case

AUTOENCODER = ["experiment=demo_autoencoder", "data.root=DATA"]
DIFFUSION = ["experiment=demo_diffusion", "data.root=DATA"]
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
        (
            ("experiment=demo_text_encoder", "activation_checkpointing=true"),
            "towers are trained without",
        ),
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


@pytest.mark.parametrize("started, lacks", [("2", 0), ("4", 1), ("", 0)])
def test_processes_of_a_launcher(started, lacks, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", started)
    said = list(strategy.launched(Case(compose("train", [*DIFFUSION, *SHARED]))))
    assert len(said) == lacks and all("devices=2 x num_nodes=1 are 2" in text for text in said)


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_a_gpu_without_bf16_is_told_what_it_has(accelerator, monkeypatch):
    words = [*DIFFUSION, "trainer=gpu", f"accelerator={accelerator}"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    missing = list(precision.bf16_of_the_gpu(Case(compose("train", words))))
    assert missing == ["this GPU has no bf16; set precision=16-mixed, or 32-true."]
    fine = compose("train", [*words, "precision=32-true"])
    assert not list(precision.bf16_of_the_gpu(Case(fine)))


def test_the_check_says_what_each_device_holds(capsys):
    words = [*DIFFUSION, *SHARED, "precision=32-true", "micro_batch=null", "devices=4"]
    for more, factor in (([], 0.25), (["micro_batch=4"], 0.25), (["strategy=ddp"], 1.0)):
        assert check("train", [*words, *more], config_dir=None) == 0
        line = next(x for x in capsys.readouterr().out.splitlines() if "each device" in x)
        sizes = dict(re.findall(r"[:,] ([\w ]+) ([\d.]+) MB", line))
        weights = 4 * 1_462_212 / 1e6
        whole = 1.0 if more else 0.25
        expected = {"weights": factor, "gradients": whole, "optimizer": 2 * factor,
                    "average": factor}  # fmt: skip
        assert expected.keys() <= sizes.keys() and "activations" in sizes
        for name, share in expected.items():
            assert float(sizes[name]) == pytest.approx(share * weights, abs=0.06)
