"""The table of rules: each is broken once, says what to type, and is satisfied by that."""

import pytest

from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.main import COMMANDS, main
from ldm.apps.rules import (
    batch,
    lengths,
    networks,
    origin,
    pictures,
    precision,
    schedules,
    strategy,
    trial,
)
from ldm.apps.rules.case import Case
from ldm.apps.rules.table import TABLE, TRAIN, remarks, wrong
from ldm.apps.verify import refuse

DIFFUSION = ("experiment=demo_diffusion", "data.root=DATA")
AUTOENCODER = ("experiment=demo_autoencoder", "data.root=DATA")
TOWERS = ("experiment=demo_text_encoder", "data.root=DATA")
GAN = ("loss.disc_start=600", "loss.gan_start=630")
# What finds it, the experiment, words that break it, and words to type, which the sentence names.
BROKEN = [
    (precision.weights_of_16_bits, DIFFUSION, "precision=16-true", "precision=16-mixed"),
    (precision.weights_of_16_bits, AUTOENCODER, "precision=bf16-true", "force_precision=true"),
    (strategy.fsdp, AUTOENCODER, "strategy=fsdp", "strategy=ddp"),
    (strategy.recomputing, TOWERS, "activation_checkpointing=true",
     "activation_checkpointing=false"),
    (batch.divides, DIFFUSION, "global_batch=33 devices=2", "global_batch=32"),
    (batch.divides, DIFFUSION, "global_batch=30 micro_batch=4", "micro_batch=30"),
    (batch.whole_at_once, AUTOENCODER, "global_batch=8 micro_batch=2 discriminator.norm=batch",
     "discriminator.norm=group"),
    (lengths.evaluation, DIFFUSION, "evaluate_every=5", "metrics=[kid_own]"),
    (lengths.evaluation, DIFFUSION, "metrics=[kid_own]", "evaluate_every=5"),
    (pictures.order_of_latents, DIFFUSION, "data.order=streamed", "data.order=shuffled"),
    (pictures.lanes_of_a_stream, TOWERS, "data.order=streamed data.lanes=7 global_batch=32",
     "data.lanes=4"),
    (pictures.divisible_by_stride, AUTOENCODER, "size=30", "size=28"),
    (pictures.channels, AUTOENCODER, "autoencoder.image_channels=1", "discriminator.in_channels=1"),
    (lengths.gan_after_discriminator, AUTOENCODER, "loss.gan_start=10", "loss.gan_start=600"),
    (networks.one_tower_at_a_time, TOWERS, "text_encoder=sdxl", "text_encoder=clip_vit_l14"),
    (networks.groups_divide_channels, DIFFUSION, "backbone.groups=5", "backbone.groups=8"),
    (networks.groups_divide_channels, AUTOENCODER, "autoencoder.groups=3", "autoencoder.groups=8"),
    (networks.heads_divide_channels, DIFFUSION, "backbone.heads=[2,7]", "backbone.heads=[2,4]"),
    (networks.heads_divide_channels, DIFFUSION, "backbone.pooling_heads=5",
     "backbone.pooling_heads=8"),
    (networks.latents_in_and_out, DIFFUSION, "backbone.in_channels=9", "backbone.in_channels=4"),
    (networks.latents_in_and_out, DIFFUSION, "backbone.in_channels=3", "backbone.in_channels=4"),
    (networks.towers, TOWERS, "text_encoder.text.heads=3", "text_encoder.text.heads=4"),
    (networks.towers, TOWERS, "text_encoder=openclip_vit_h14 text_encoder.vision.head_width=400",
     "text_encoder.vision.head_width=80"),
    (networks.towers, TOWERS, "text_encoder.text.vocab_size=50000",
     "text_encoder.text.vocab_size=49408"),
    (schedules.prediction, DIFFUSION, "schedule=cosine", "prediction=v"),
    (schedules.grids, DIFFUSION, "preview.steps=1001", "preview.steps=1000"),
    (schedules.grids, DIFFUSION,
     "schedule.zero_terminal_snr=true prediction=v weighting=uniform preview.spacing=karras",
     "preview.spacing=trailing"),
    (schedules.weighting, DIFFUSION, "schedule=flow prediction=flow", "weighting=uniform"),
    (origin.from_scratch, AUTOENCODER, "from_scratch=true perceptual=lpips", "perceptual=none"),
    (trial.passes, AUTOENCODER, "size=8 discriminator.num_layers=3", "discriminator.num_layers=1"),
]  # fmt: skip
REMARKED = [
    (schedules.hardly_weighted, DIFFUSION, "schedule=linear prediction=v", "weighting=uniform"),
    (precision.fp16_of_a_gan, AUTOENCODER, "precision=16-mixed", "precision=bf16-mixed"),
    (lengths.warm_up, DIFFUSION, "warmup_steps=1000 max_steps=1000", "warmup_steps=50"),
    (lengths.what_never_happens, DIFFUSION, "max_steps=100 warmup_steps=5 checkpoint_every=50",
     "validate_every=25"),
    (lengths.gan_that_never_comes, AUTOENCODER, "loss.gan_start=750", "discriminator=none"),
    (lengths.learning_rate, DIFFUSION, "lr=0.5", "lr=1e-4"),
    (lengths.learning_rate, DIFFUSION, "lr=1e-9", "lr=1e-4"),
    (pictures.mirrored, TOWERS, "flip=true", "flip=false"),
    (strategy.nodes_of_the_launcher, DIFFUSION, "num_nodes=2", "num_nodes=1"),
]  # fmt: skip


def case(*words):
    return Case(compose("train", [word for group in words for word in group.split(" ")]))


def said_by(find, broken):
    """The sentences of one rule, found or raised."""
    try:
        return list(find(broken) or ())
    except ValueError as error:
        return [str(error)]


@pytest.mark.parametrize("find, experiment, words, remedy", BROKEN)
def test_what_does_not_go_together_is_told_with_what_mends_it(find, experiment, words, remedy):
    told = wrong("train", case(*experiment, words))
    assert told, "not found"
    assert set(told) & set(said_by(find, case(*experiment, words)))
    assert remedy.partition("=")[0].rpartition(".")[2] in " ".join(told)
    assert wrong("train", case(*experiment, words, remedy)) == []


@pytest.mark.parametrize("find, experiment, words, remedy", REMARKED)
def test_what_is_hardly_meant_is_remarked_on_and_allowed(find, experiment, words, remedy):
    doubtful = case(*experiment, words)
    (said,) = remarks("train", doubtful)
    assert said in list(find(doubtful)) and wrong("train", doubtful) == []
    assert remedy.partition("=")[0] in said or remedy.partition("=")[2] in said
    assert remarks("train", case(*experiment, words, remedy)) == []


def test_every_rule_of_settings_is_broken_here_and_no_other():
    listed = {rule.find for rule in (*TRAIN.settings, *TRAIN.trial)}
    assert listed == {find for find, *_ in BROKEN}
    listed = {rule.find for rule in (*TRAIN.remarks, *TRAIN.remarks_here)}
    assert listed == {find for find, *_ in REMARKED}


def test_several_machines_are_not_remarked_on_where_somebody_starts_them(monkeypatch):
    several = case(*DIFFUSION, "num_nodes=2")
    assert remarks("train", several) and not remarks("train", several, here=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not remarks("train", several)


def test_the_table_knows_every_command_that_works_on_something():
    works = {"prepare", "train", "cache", "sample", "evaluate", "export", "import", "run"}
    assert works <= set(TABLE) <= set(COMMANDS)
    for rules in TABLE.values():
        for rule in (*rules.settings, *rules.trial, *rules.inputs, *rules.looked_at):
            assert rule.about and rule.find.__doc__


def test_three_mistakes_need_one_try(capsys):
    mistakes = ["backbone.groups=5", "preview.steps=1001", "global_batch=33", "devices=2"]
    assert main(["check", *DIFFUSION, *mistakes]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "ldm: 3 things do not fit:" and len(said) == 4
    assert all(line.startswith("- ") for line in said[1:])


def test_one_mistake_is_one_sentence():
    refuse([])
    with pytest.raises(UserError, match=r"^alone\.$"):
        refuse(["alone."])


def test_shapes_that_do_not_meet_are_no_traceback(monkeypatch):
    def torn(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x3 and 4x5)\nstack")

    monkeypatch.setattr("ldm.backbones.unet.UNet.forward", torn)
    monkeypatch.setattr(trial, "_TRIED", {})
    (said,) = trial.passes(case(*DIFFUSION))
    assert "mat1 and mat2" in said and "stack" not in said and "backbone=NAME" in said
