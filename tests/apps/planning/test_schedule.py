"""Whole schedules on GPUs that are known by name, against what others have published."""

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.plan import plan
from ldm.apps.planning import scaling, schedule
from ldm.apps.planning.estimate import estimate
from ldm.apps.planning.gpus import GPUS, gpu_named, reached_at
from ldm.manifest import read_json


def place(name, price="null", *words):
    settings = compose("plan", [f"price_per_gpu_hour={price}", *words])
    return schedule.place_of(settings, gpu_named(name))


def stable_diffusion_2(size_px, steps):
    """As MosaicML trained it: no average for most of the time, micro-batches of 16, fp16."""
    words = ["experiment=sd1_256", "backbone=unet_sd2", f"size={size_px}", f"max_steps={steps}"]
    settings = ["ema_decay=null", "precision=16-mixed", "micro_batch=16", "data.root=DATA"]
    return estimate(compose("train", [*words, *settings]))


@pytest.fixture(scope="module")
def at_256():
    return stable_diffusion_2(256, 550_000)


@pytest.fixture(scope="module")
def at_512():
    return stable_diffusion_2(512, 850_000)


def rows(found, name, mfu, mfu_gpus, counts):
    where = place(name)
    rate = schedule.rate_by_mfu(found, where, mfu, mfu_gpus)
    return {row.gpus: row for row in schedule.rows(found, where, rate, counts)}


@pytest.mark.parametrize(
    ("size_px", "mfu", "gpus", "published"),
    # MosaicML diffusion's README: A100s, global batch 2048; images/s per GPU, and their MFU.
    [
        (256, 0.238, 8, 137.5),
        (256, 0.230, 64, 133.0),
        (256, 0.157, 128, 90.6),
        (512, 0.280, 8, 36.2),
        (512, 0.277, 128, 35.9),
    ],
)
def test_mosaicml_trained_stable_diffusion_2_at_these_rates(
    at_256, at_512, size_px, mfu, gpus, published
):
    found = at_256 if size_px == 256 else at_512
    row = rows(found, "a100_80gb", mfu, gpus, [gpus])[gpus]
    assert row.images_per_second / gpus == pytest.approx(published, rel=0.02)
    assert row.mfu == pytest.approx(mfu) and row.micro_batch == 16


@pytest.mark.parametrize(
    ("size_px", "mfu", "gpus", "published"), [(256, 0.238, 64, 133.0), (512, 0.280, 128, 35.9)]
)
def test_from_8_gpus_the_model_finds_the_rates_of_many(
    at_256, at_512, size_px, mfu, gpus, published
):
    """But for 256 px on 128 GPUs, where they had 90.6 images/s per GPU, and it says 123."""
    found = at_256 if size_px == 256 else at_512
    made = rows(found, "a100_80gb", mfu, 8, [8, gpus])
    assert made[gpus].images_per_second / gpus == pytest.approx(published, rel=0.15)
    assert made[gpus].efficiency <= 1.0


def test_the_whole_schedule_takes_15_615_hours_at_their_rates(at_256, at_512):
    """1.126 G images at 256 px and 1.741 G at 512 px, the denoiser on 8 GPUs."""
    each = [
        [*rows(found, "a100_80gb", mfu, 8, [8]).values()]
        for found, mfu in ((at_256, 0.238), (at_512, 0.280))
    ]
    (total,) = schedule.total(each)
    assert total.gpu_hours == pytest.approx(15_615, rel=0.02)
    assert total.hours == pytest.approx(total.gpu_hours / 8)


def test_published_rates_carry_over_by_operations(at_512):
    """The H200's are of this network and size: MLPerf's 128.9 images/s, less the text encoder."""
    where = place("h200", price=3)
    reached = reached_at(where.gpu, 512)
    rate = schedule.rate_as_reached(at_512, where, reached)
    assert "MLPerf" in rate.said and "31.4%" in rate.said
    made = schedule.rows(at_512, where, rate, [1, 8, 64, 1000, 1024])
    (one, eight, many, odd, most) = made
    text = at_512.flops.beside["text_encoder"] / at_512.flops.training
    assert eight.images_per_second / 8 == pytest.approx(128.9 / (1 + text), rel=0.02)
    assert odd.refused == "global_batch=2048 does not divide by 1000" and odd.hours == 0.0
    assert one.efficiency == 1.0 > eight.efficiency > many.efficiency > most.efficiency > 0.3
    assert (most.micro_batch, most.accumulate) == (2, 1) and one.accumulate == 2048 // 16
    assert eight.cost == pytest.approx(eight.gpu_hours * 3)


def test_a_slower_network_makes_no_faster_gpu(at_512):
    """The published step is undone by its own links, not by those that are planned with."""
    usual, slow = place("h100"), place("h100", "2", "network_gb_per_second=5")
    rates = [schedule.rate_as_reached(at_512, w, reached_at(w.gpu, 512)) for w in (usual, slow)]
    assert rates[0] == rates[1]
    fast, slower = (
        schedule.rows(at_512, w, rate, [256])[0].images_per_second
        for w, rate in zip((usual, slow), rates, strict=True)
    )
    assert slower < 0.9 * fast


def test_what_was_measured_holds_against_what_was_assumed(at_256):
    """A compiled network launches fewer kernels than we assume for each tensor."""
    where, images = place("h200"), 4
    assumed = at_256.tensors * scaling.LAUNCH_SECONDS
    seconds = 0.5 * assumed + 0.015
    rate = schedule.rate_measured(at_256, where, seconds, images)
    assert rate.launch_seconds < scaling.LAUNCH_SECONDS
    found = replace(at_256, config=OmegaConf.merge(at_256.config, {"global_batch": images}))
    (row,) = schedule.rows(found, where, rate, [1])
    assert row.step_seconds == pytest.approx(seconds, rel=1e-6)
    slow = schedule.rate_measured(at_256, where, 2 * assumed, images)
    assert slow.launch_seconds == scaling.LAUNCH_SECONDS


def test_a_budget_of_pixels_cuts_micro_batches(at_512):
    more = {"max_micro_pixels": 4 * 512**2 + 1}
    found = replace(at_512, config=OmegaConf.merge(at_512.config, more))
    _, micro, _ = schedule.cut_for(found, place("h100"), 8)
    assert micro == 4


def test_what_a_gpu_cannot_hold_is_cut_smaller_or_refused(at_512):
    whole = rows(at_512, "a100_80gb", 0.28, 8, [8])[8]
    small = rows(at_512, "rtx4090", 0.28, 8, [8])[8]
    assert small.micro_batch < whole.micro_batch and small.memory <= 24e9 < whole.memory
    none = schedule.cut_for(at_512, schedule.Place(_tiny(), place("h100").links, None), 8)
    assert isinstance(none, str) and "one picture needs" in none
    with pytest.raises(UserError, match=r"mfu= is said of 8 GPU.*one picture needs.*mfu_gpus=N"):
        schedule.rate_by_mfu(at_512, schedule.Place(_tiny(), place("h100").links, None), 0.2, 8)


def _tiny():
    return replace(GPUS["h100"], memory=4e9)


@pytest.mark.slow
def test_the_model_card_of_stable_diffusion_names_150_000_hours(tmp_path):
    """237 k steps at 256 px and 934 k at 512 px of 2,048 images on 256 A100s: MFU 2.9 %."""
    out = Path(tmp_path) / "plan.json"
    words = ["experiment=sd1_256", "phases=[256:237000,512:934000]", "gpu=a100_40gb", "mfu=0.029"]
    more = ["mfu_gpus=256", "gpus=256", "price_per_gpu_hour=2", f"out={out}"]
    assert plan([*words, *more]) == 0
    found = read_json(out)
    assert found["gpu_hours"] == pytest.approx(150_000, rel=0.02)
    assert found["cost"] == pytest.approx(2 * found["gpu_hours"])
    assert found["hours"] == pytest.approx(found["gpu_hours"] / 256)
    assert [t["images_seen"] // 2048 for t in found["trainings"]] == [237_000, 934_000]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gpu=h10"], "gpu=h10 is not in the table.*'h100'"),
        (["gpus=8", "accelerator=gpu"], "name the GPU that is meant"),
        (["gpu=h100", "mfu=[0.1,0.2]"], r"mfu=\[0.1, 0.2\] has 2 values for 1 training"),
        (["gpu=v100", "precision=bf16-mixed"], "no rate of NVIDIA V100.*precision=16-mixed"),
        (["gpu=h100", "mfu=0.2", "mfu_gpus=5"], "mfu= is said of 5 GPU.*does not divide"),
        (["gpu=h100", "mfu=1.0", "mfu_gpus=32"], "shorter than what optimizer.*lower mfu="),
        (["gpu=h100", "measure=true"], "measure=true measures this machine"),
        (["latents_by=kl_f4"], "latents of 3 channels"),
        (["captions_by=clip_vit_l14"], "gives tokens of 768, and backbone.context_dim=64"),
    ],
)
def test_mistakes_are_sentences(words, said):
    with pytest.raises(UserError, match=said):
        plan(["experiment=demo_diffusion", "precision=bf16-mixed", *words])
