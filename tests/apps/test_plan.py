"""`ldm plan` as people run it: every experiment, without data and without a GPU."""

import math

import pytest

from ldm.apps import plan
from ldm.apps.config_files import config_root
from ldm.apps.planning.gpus import GPUS
from ldm.apps.planning.measured import Measured
from ldm.callbacks.metrics_log import read_jsonl
from ldm.manifest import read_json

EXPERIMENTS = sorted(path.stem for path in (config_root() / "experiment").glob("*.yaml"))
KEYS = (
    "train_flops_per_image", "forward_flops_per_image", "frozen_flops_per_image", "parameters",
    "memory_bytes", "checkpoint_bytes", "cache_bytes_per_image", "images_per_second", "hours",
    "cost", "scaling", "assumptions", "convention",
)  # fmt: skip
QUICK = ("demo_autoencoder", "demo_diffusion", "folder_text_encoder", "imagenet_256")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in EXPERIMENTS]
)
def test_every_experiment_has_a_plan(name, ldm, tmp_path, capsys):
    out = tmp_path / "plan.json"
    words = [f"experiment={name}", "gpu=h100", "price_per_gpu_hour=2", f"out={out}"]
    words += ["precision=bf16-mixed"]  # the small ones are of fp32, of which no rate is known
    assert ldm("plan", *words) == 0
    found, said = read_json(out), capsys.readouterr().out
    assert set(KEYS) <= found.keys()
    assert found["train_flops_per_image"] > 2 * found["forward_flops_per_image"] > 0
    assert found["memory_bytes"]["total"] > found["memory_bytes"]["weights"] > 0
    taken = [row for row in found["scaling"] if "refused" not in row]
    assert taken and all(math.isfinite(row["hours"]) and row["cost"] > 0 for row in taken)
    assert "per image" in said and "images/s" in said and "1 MAC = 2 FLOP" in said


def test_without_a_gpu_it_says_what_to_type_for_a_time(ldm, capsys):
    assert ldm("plan", "experiment=demo_diffusion") == 0
    said = capsys.readouterr().out
    assert "no time is known" in said and "gpu=h100" in said and "measure=true" in said


def test_rates_of_16_bits_are_not_carried_over_to_32(ldm, capsys):
    words = ["plan", "experiment=demo_diffusion", "precision=32-true", "gpu=h100"]
    assert ldm(*words) == 0
    said = capsys.readouterr().out
    assert "published rates are of 16 bits" in said and "measure=true" in said
    assert "no time is known" in said
    assert ldm(*words, "mfu=0.3") == 2
    assert "has no one peak that mfu= could be a share of" in capsys.readouterr().err


def test_the_train_word_may_stand_there_and_mistakes_are_answered(ldm, capsys):
    assert ldm("plan", "train", "experiment=demo_diffusion", "lattents_by=kl_f8") == 2
    assert "'latents_by'" in capsys.readouterr().err
    assert ldm("plan", "experiment=demo_diffusion", "latents_by=kl_f9") == 2
    assert "'kl_f8'" in capsys.readouterr().err
    assert ldm("plan", "-m", "experiment=demo_diffusion", "seed=1,2") == 2


def test_the_number_of_images_gives_the_size_of_their_cache(ldm, tmp_path, capsys):
    out = tmp_path / "plan.json"
    words = ["experiment=imagenet_256", "images=1281167", f"out={out}"]
    assert ldm("plan", *words) == 0
    found = read_json(out)
    assert found["cache_bytes_per_image"] == 8 * 32 * 32 * 2 + 2 + 16  # moments, class, positions
    assert found["cache_bytes"] == 1281167 * found["cache_bytes_per_image"]
    assert "latent cache of 1,281,167 images: 21.0 GB" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["text_encoder", "autoencoder", "diffusion"])
def test_measured_on_this_machine(stage, world, ldm, tmp_path, capsys):
    out = tmp_path / "plan.json"
    words = [
        *world.settings[stage],
        "global_batch=4",
        "measure=true",
        "measure_steps=2",
        f"out={out}",
    ]
    assert ldm("plan", *words) == 0
    found = read_json(out)
    measured = found["measured"]
    assert measured["device"] == "CPU" and measured["steps"] == 2
    assert measured["images"] == found["global_batch"]
    rate = measured["images"] / measured["seconds"]
    assert found["images_per_second"] == pytest.approx(rate)
    assert found["hours"] == pytest.approx(found["images_seen"] / rate / 3600)
    assert "CPU: " in capsys.readouterr().out


def test_a_refused_number_of_gpus_has_no_rate_of_one(ldm, monkeypatch, capsys):
    """Even where one GPU was measured."""
    monkeypatch.setattr(plan, "_here", lambda: GPUS["h100"])
    measured = Measured("H100", 64, 20, 0.5, None)
    monkeypatch.setattr(plan, "_measured", lambda settings, found: measured)
    words = ["experiment=demo_diffusion", "trainer=gpu", "measure=true", "gpus=5"]
    assert ldm("plan", *words) == 0
    said = capsys.readouterr().out
    assert "on 5 GPU(s) this cannot be trained: global_batch=32 does not divide by 5" in said
    assert "on 5 x" not in said


@pytest.mark.parametrize("stage", ["text_encoder", "autoencoder", "diffusion"])
def test_training_logs_the_operations_that_are_planned(stage, world, ldm, tmp_path):
    out, root = tmp_path / "plan.json", world.latents if stage == "diffusion" else world.shards
    assert ldm("plan", *world.settings[stage], f"data.root={root}", f"out={out}") == 0
    each = read_json(out)["train_flops_per_image"]
    rows = read_jsonl(getattr(world, stage) / "metrics.jsonl")
    told = [row for row in rows if "tflops_per_second" in row]
    assert len(told) == 4 and all("mfu" not in row for row in told)  # a CPU's peak is not known
    for row in told:
        assert row["tflops_per_second"] == pytest.approx(row["images_per_second"] * each / 1e12)


def test_a_latent_cache_gives_shapes_and_numbers(world, ldm, tmp_path):
    out = tmp_path / "plan.json"
    words = [*world.settings["diffusion"], f"data.root={world.latents}", f"out={out}"]
    assert ldm("plan", *words) == 0
    found = read_json(out)
    assert found["images"] == 64
    assert any(str(world.latents) in line for line in found["assumptions"])
