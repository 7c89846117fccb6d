"""The commands chained on a tiny world: each does its part, knows its own work, and resumes."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file
from torch.utils._pytree import tree_leaves

from ldm.apps.report.page import write_report
from ldm.apps.run_directory import open_run
from ldm.callbacks.metrics_log import OF_THE_MACHINE, read_jsonl
from ldm.data.lock import alone
from ldm.manifest import read_json, read_manifest

CHECKOUT = Path(__file__).resolve().parents[2]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Every weight of a run's model folder."""
    files = sorted((run / "model").rglob("*.safetensors"))
    assert files
    return {
        f"{file.parent.name}.{name}": value
        for file in files
        for name, value in load_file(file).items()
    }


def rows(run: Path) -> list[dict[str, float]]:
    """The logged numbers of a run, without those of the clock."""
    found = read_jsonl(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in found]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.glob("0*.png"))]).astype(int)


def test_every_stage_leaves_what_the_design_says(world):
    for run, stage in (
        (world.text_encoder, "text_encoder"),
        (world.autoencoder, "autoencoder"),
        (world.diffusion, "diffusion"),
    ):
        manifest = read_manifest(run, kind=f"run_{stage}")
        assert manifest.facts["step"] == 4
        for name in ("config.yaml", "metrics.jsonl", "model", "checkpoints"):
            assert (run / name).exists(), (stage, name)
        logged = rows(run)
        assert [row["step"] for row in logged if "train/loss" in row] == [1, 2, 3, 4]
        assert [row["step"] for row in logged if any(k.startswith("val/") for k in row)] == [4]
    for run in (world.autoencoder, world.diffusion):
        assert (run / "samples" / "step_000000004.png").is_file()
    parts = {p.name for p in (world.diffusion / "model").iterdir()}
    assert parts == {"unet", "vae", "scheduler", "text_encoder", "model_index.json"}


def test_the_discriminator_enters_when_it_should(world):
    logged = [row for row in rows(world.autoencoder) if "train/loss" in row]
    assert ["train/d_loss" in row for row in logged] == [False, True, True, True]
    # gan_start 2 with a ramp of 4: nothing at step 2 (the third), a quarter at step 3.
    assert ["train/d_weight" in row for row in logged] == [False, False, False, True]


@pytest.mark.parametrize("stage", ["text_encoder", "autoencoder", "diffusion"])
def test_the_same_command_again_says_finished(world, ldm, stage, capsys):
    run = getattr(world, stage)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    assert ldm(*world.train(stage, run)) == 0
    assert "is finished (step 4)" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before


def test_prepare_and_cache_again_say_so(world, ldm, capsys):
    assert ldm("prepare", "data=shapes", "data.num_train=64", "data.num_held_out=16",
               "data.size_px=32", f"out={world.shards}") == 0  # fmt: skip
    assert "is prepared already" in capsys.readouterr().out
    words = ["cache", f"autoencoder_run={world.autoencoder}", f"text_run={world.text_encoder}",
             f"data.root={world.shards}", f"out={world.latents}"]  # fmt: skip
    assert ldm(*words, "block=16") == 0
    assert capsys.readouterr().out.count("is cached already") == 2
    assert ldm(*words, "block=8") == 2
    assert "block=16, now 8" in capsys.readouterr().err


def test_another_configuration_is_refused_with_the_difference(world, ldm, capsys):
    assert ldm(*world.train("diffusion", world.diffusion, "lr=2e-3", "drop_rate=0.2")) == 2
    said = capsys.readouterr().err
    assert "drop_rate: 0.1 -> 0.2" in said and "lr: 0.001 -> 0.002" in said
    assert "resume=never" in said
    # What does not change what is learned may change.
    assert ldm(*world.train("diffusion", world.diffusion, "log_every=7", "preview.steps=3")) == 0


def test_inputs_made_anew_are_refused_on_resume_and_when_finished(world, ldm, tmp_path, capsys):
    data, run = tmp_path / "shards", tmp_path / "run"
    shutil.copytree(world.shards, data)
    command = ["train", *world.settings["text_encoder"], f"data.root={data}", f"run={run}"]
    assert ldm(*command) == 0
    manifest = read_json(data / "manifest.json")
    (data / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "0123456789abcdef"}))
    capsys.readouterr()
    for more in ((), ("max_steps=6",)):  # finished, and to be continued
        assert ldm(*command, *more) == 2
        said = capsys.readouterr().err
        assert "was trained on shards" in said and "now 0123456789abcdef" in said
        assert "resume=never" in said
    assert ldm(*command, "resume=never") == 0


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_other_processes_than_the_first_write_nothing_and_know_what_is_finished(
    variable, world, tmp_path, monkeypatch
):
    finished = OmegaConf.load(world.text_encoder / "config.yaml")
    inputs = read_json(world.text_encoder / "inputs.json")
    before = sorted(world.text_encoder.rglob("*"))
    monkeypatch.setenv(variable, "1")
    assert not open_run(finished, inputs)
    assert open_run(OmegaConf.merge(finished, {"max_steps": 9}), inputs)
    assert open_run(OmegaConf.merge(finished, {"resume": "never"}), inputs)
    assert open_run(OmegaConf.merge(finished, {"run": str(tmp_path / "new")}), inputs)
    assert sorted(world.text_encoder.rglob("*")) == before and not any(tmp_path.iterdir())


def test_a_run_that_never_began_does_not_hold_its_directory(world, ldm, tmp_path):
    run = f"run={tmp_path / 'run'}"
    right = ["train", *world.settings["text_encoder"], f"data.root={world.shards}", run]
    assert ldm(*right, "init=/nowhere") == 2
    assert not (tmp_path / "run").exists()  # refused before anything is written
    (tmp_path / "run").mkdir()
    other = OmegaConf.merge(OmegaConf.load(world.text_encoder / "config.yaml"), {"seed": 7})
    OmegaConf.save(other, tmp_path / "run" / "config.yaml")  # of one that failed as it began
    assert ldm(*right) == 0


def test_a_run_that_was_killed_at_its_first_file_goes_on(world, ldm, tmp_path):
    (tmp_path / ".inputs.json.123.tmp").write_text("{")
    assert ldm(*world.train("text_encoder", tmp_path)) == 0
    assert not list(tmp_path.glob(".*"))


def test_a_run_is_not_ended_before_where_it_is(world, ldm, tmp_path, capsys):
    words = world.train("text_encoder", tmp_path)
    assert ldm(*words) == 0
    (tmp_path / "manifest.json").unlink()  # as after a kill at its end
    assert ldm(*words, "max_steps=2") == 2
    assert "has reached step 4, which is beyond max_steps=2" in capsys.readouterr().err
    assert ldm(*words, "lr=2e-3") == 2  # there is no step left to learn otherwise
    assert ldm(*words) == 0 and (tmp_path / "manifest.json").is_file()


def test_one_command_at_a_time_trains_in_a_directory(world, ldm, tmp_path, capsys):
    with alone(tmp_path / "lock", "taken"):
        assert ldm(*world.train("text_encoder", tmp_path)) == 2
    assert "is being trained by another process" in capsys.readouterr().err
    assert not (tmp_path / "config.yaml").exists()


def test_resume_never_moves_the_old_run_aside(world, ldm, tmp_path, capsys):
    run = tmp_path / "run"
    one_step = ["max_steps=1", "resume=never"]
    for _ in range(3):
        assert ldm(*world.train("text_encoder", run, *one_step)) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run.1", "run.2"]
    assert str(tmp_path / "run.1") in capsys.readouterr().out
    assert same(weights(run), weights(tmp_path / "run.1"))  # the same seed, the same model


@pytest.mark.parametrize(
    "stage",
    [
        "diffusion",  # of the others tests/apps/test_resume.py is the quick one
        *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("autoencoder", "text_encoder")),
    ],
)
def test_resuming_is_exact(world, ldm, tmp_path, stage):
    """Four steps at once are 1 + 2 + 1 steps, bit for bit: model, average, logged numbers."""
    run = tmp_path / "run"
    # The learning rate may depend on max_steps; here it must not.
    constant = "learning_rate=constant"
    straight = tmp_path / "straight"
    assert ldm(*world.train(stage, straight, constant)) == 0
    for stop in (1, 3, 4):
        assert ldm(*world.train(stage, run, constant, f"max_steps={stop}")) == 0
        assert read_manifest(run).facts["step"] == stop
    assert same(weights(run), weights(straight))
    train = [[r for r in rows(x) if "train/loss" in r] for x in (run, straight)]
    assert train[0] == train[1] and len(train[0]) == 4
    assert rows(run)[-1] == rows(straight)[-1]
    states = [
        torch.load(x / "checkpoints" / "step_000000004.pt", weights_only=True)
        for x in (run, straight)
    ]
    for one, other in zip(*(tree_leaves(s["trained"]) for s in states), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_accumulation_trains_the_same_model(world, ldm, tmp_path):
    for name, more in (("whole", []), ("parts", ["micro_batch=2"])):
        words = world.train("diffusion", tmp_path / name, "precision=64-true", "max_steps=3")
        assert ldm(*words, *more) == 0
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0.0, atol=1e-6)


def test_init_starts_from_the_weights_of_another_run(world, ldm, tmp_path):
    for stage in ("diffusion", "autoencoder", "text_encoder"):
        run, source = tmp_path / stage, getattr(world, stage)
        words = world.train(stage, run, f"init={source}", "max_steps=1", "lr=1e-12", "seed=9")
        assert ldm(*words) == 0
        assert read_manifest(run).facts["step"] == 1
        before, after = weights(source), weights(run)
        for name, value in before.items():
            if "running_" in name or "num_batches" in name:
                continue  # statistics move with every batch, whatever the learning rate
            torch.testing.assert_close(after[name], value, rtol=0.0, atol=1e-6)
    said = ldm(*world.train("diffusion", tmp_path / "x", "init=nowhere", "max_steps=1"))
    assert said == 2


def test_init_says_when_the_network_learned_something_else(world, ldm, tmp_path, capsys):
    words = [f"init={world.diffusion}", "max_steps=1", "prediction=v"]
    assert ldm(*world.train("diffusion", tmp_path / "v", *words)) == 0
    assert "predicted epsilon" in (said := capsys.readouterr().out) and "it will learn v" in said
    assert ldm(*world.train("diffusion", tmp_path / "same", *words[:2])) == 0
    assert "it will learn" not in capsys.readouterr().out


def test_init_of_another_architecture_is_refused(world, ldm, tmp_path, capsys):
    words = world.train("diffusion", tmp_path / "x", f"init={world.diffusion}")
    assert ldm(*words, "backbone.channels=[16,48]") == 2
    assert "is of another architecture: size mismatch" in capsys.readouterr().err


def test_missing_inputs_name_the_command_that_makes_them(world, ldm, tmp_path, capsys):
    none = tmp_path / "none"

    def said(*words):
        assert ldm(*words) == 2
        return capsys.readouterr().err

    for stage, command in (("diffusion", "ldm cache"), ("autoencoder", "ldm prepare")):
        words = ["train", *world.settings[stage], f"data.root={none}", f"run={tmp_path / 'r'}"]
        assert command in said(*words)
    assert not (tmp_path / "r").exists()
    cache = ["cache", f"data.root={world.shards}", f"out={tmp_path / 'l'}"]
    autoencoder, text = f"autoencoder_run={world.autoencoder}", f"text_run={world.text_encoder}"
    assert "stage=autoencoder" in said(*cache, f"autoencoder_run={none}", text)
    assert "stage=text_encoder" in said(*cache, autoencoder, f"text_run={none}")
    assert "ldm prepare" in said(
        "cache", f"data.root={none}", f"out={tmp_path / 'l'}", autoencoder, text
    )
    assert "stage=diffusion" in said("sample", f"model={none}", "prompt=x", f"out={tmp_path / 's'}")
    assert "holds no unet" in said("sample", f"model={world.text_encoder / 'model'}", "prompt=x")
    assert "give either prompt" in said("sample", f"model={world.root}", f"out={tmp_path / 's'}")


def test_latents_of_another_autoencoder_are_refused(world, ldm, tmp_path, capsys):
    shutil.copytree(world.root, tmp_path / "w")
    copied = tmp_path / "w"
    for file in (copied / "autoencoder" / "model" / "vae").glob("*.safetensors"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
    words = ["train", *world.settings["diffusion"], f"data.root={copied / 'latents'}"]
    assert ldm(*words, f"run={tmp_path / 'r'}") == 2
    said = capsys.readouterr().err
    assert "made with another autoencoder" in said and "ldm cache" in said


def test_the_size_of_the_latents_must_be_the_one_asked_for(world, ldm, tmp_path, capsys):
    run = tmp_path / "run"
    assert ldm(*world.train("diffusion", run, "size=64")) == 2
    assert "size=64, but the latents of" in capsys.readouterr().err
    levels = ["backbone.channels=[8,8,8,8,8]", "backbone.attention=[false,false,false,false,true]",
              "backbone.heads=[1,1,1,1,1]", "backbone.transformer_depth=[1,1,1,1,1]"]  # fmt: skip
    assert ldm(*world.train("diffusion", run, *levels)) == 2
    assert "needs multiples of 16; cache pictures with a size that is a multiple of 64" in (
        capsys.readouterr().err
    )


def test_latents_are_cached_at_the_size_of_the_autoencoder(world, ldm, tmp_path, capsys):
    shards = tmp_path / "shards"
    assert ldm("prepare", "data=shapes", "data.num_train=4", "data.num_held_out=2",
               "data.size_px=64", f"out={shards}") == 0  # fmt: skip
    words = ["cache", f"autoencoder_run={world.autoencoder}", f"text_run={world.text_encoder}",
             f"data.root={shards}"]  # fmt: skip
    assert ldm(*words, f"out={tmp_path / 'a'}") == 0
    assert read_manifest(tmp_path / "a").settings["size_px"] == 32
    shutil.rmtree(shards / "held_out")
    capsys.readouterr()
    assert ldm(*words, f"out={tmp_path / 'b'}", "size=64") == 0
    assert read_manifest(tmp_path / "b").settings["size_px"] == 64
    assert not (tmp_path / "b" / "held_out").exists()
    said = capsys.readouterr().out
    assert "has no held_out/" in said and "4 latents cached\n" in said


def test_one_scale_for_all_channels_is_written_as_pipelines_read_it(world, ldm, tmp_path):
    run = tmp_path / "run"
    assert ldm(*world.train("diffusion", run, "latent_scale=scalar", "preview.num=0")) == 0
    written = read_json(run / "model" / "vae" / "config.json")
    assert "latents_std" not in written and written["scaling_factor"] > 0.0
    facts = read_manifest(world.latents).facts
    squares = [m**2 + s**2 for m, s in zip(facts["mean"], facts["std"], strict=True)]
    assert written["scaling_factor"] == pytest.approx((sum(squares) / 4) ** -0.5, rel=1e-5)
    assert not (run / "samples").exists()  # preview.num=0


def test_a_moved_tree_still_works(world, ldm, tmp_path):
    shutil.copytree(world.root, tmp_path / "moved")
    words = ["train", *world.settings["diffusion"], f"data.root={tmp_path / 'moved' / 'latents'}"]
    assert ldm(*words, f"run={tmp_path / 'r'}", "max_steps=1") == 0


def test_unconditional_pictures_need_no_text_encoder_training(world, ldm, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(np.full((32, 32, 3), 20 * i, np.uint8)).save(folder / f"{i}.png")
    shards = tmp_path / "shards"
    assert ldm("prepare", "data=folder", f"data.path={folder}", "data.size_px=32",
               "data.held_out_fraction=0.3", f"out={shards}") == 0  # fmt: skip
    run = ["train", *world.settings["text_encoder"], f"data.root={shards}", f"run={tmp_path / 't'}"]
    assert ldm(*run) == 0
    assert "no captions" in capsys.readouterr().out
    assert (tmp_path / "t" / "model" / "text_encoder").is_dir()
    assert ldm(*run) == 0
    assert "is finished" in capsys.readouterr().out


@pytest.fixture(scope="module")
def sampled(world, ldm, tmp_path_factory):
    def run(name, *more):
        out = tmp_path_factory.mktemp("samples") / name
        words = ["sample", f"model={world.root}", f"out={out}", "steps=3", "block=4", *more]
        assert ldm(*words) == 0
        return out

    return run


def test_pictures_depend_on_their_seed_only(sampled):
    prompt = "prompt=a large red circle, [bold] x=1"
    whole = sampled("a", prompt, "num=6", "seed=10")
    assert sorted(p.name for p in whole.iterdir())[-2:] == ["grid.png", "samples.json"]
    record = read_json(whole / "samples.json")
    row = {"file": "000005.png", "prompt": prompt[7:], "seed": 15, "position": 1}
    assert record["pictures"][5] == row
    assert record["protocol"]["weights"] == "averaged"
    assert record["protocol"]["steps"] == 3 and record["protocol"]["sampler"] == "dpmpp_2m"
    images = pictures(whole)
    assert images.shape == (6, 32, 32, 3) and len({i.tobytes() for i in images}) == 6
    # The same block: the same bits, however many pictures are asked for and where they begin.
    assert (pictures(sampled("b", prompt, "num=6", "seed=10")) == images).all()
    assert (pictures(sampled("c", prompt, "num=2", "seed=10")) == images[:2]).all()
    assert (pictures(sampled("d", prompt, "num=2", "seed=14")) == images[4:]).all()
    # Another block: arithmetic may round otherwise.
    for block in (1, 3, 16):
        other = pictures(sampled("e", prompt, "num=6", "seed=10", f"block={block}"))
        assert abs(other - images).max() <= 1


def test_options_of_sampling_reach_the_pictures_and_their_record(sampled):
    def drawn(*more):
        out = sampled("options", "prompt=a large red circle", "num=2", *more)
        return pictures(out), read_json(out / "samples.json")["protocol"]

    plain, protocol = drawn("guidance=8")
    assert (protocol["guidance_rescale"], protocol["guidance_interval"]) == (0.0, None)
    rescaled, protocol = drawn("guidance=8", "guidance_rescale=0.7")
    assert protocol["guidance_rescale"] == 0.7
    assert (rescaled != plain).any()
    nowhere, protocol = drawn("guidance=8", "guidance_interval=[0,1e-6]")
    assert protocol["guidance_interval"] == [0.0, 1e-6]
    assert (nowhere == drawn("guidance=1")[0]).all()
    theirs, protocol = drawn("guidance=8", "sampler=pndm", "spacing=diffusers")
    assert (protocol["sampler"], protocol["spacing"]) == ("pndm", "diffusers")
    assert (theirs != drawn("guidance=8", "sampler=pndm")[0]).any()


@pytest.mark.parametrize(
    "words, sampler",
    [
        (["schedule=flow", "prediction=flow", "weighting=uniform"], "heun"),
        (["schedule=cosine", "schedule.zero_terminal_snr=true", "prediction=v",
          "offset_noise=0.1", "weighting=uniform"], "unipc"),
    ],
)  # fmt: skip
def test_a_process_that_ends_in_pure_noise(words, sampler, world, ldm, tmp_path):
    assert ldm(*world.train("diffusion", tmp_path / "run", *words)) == 0
    out = tmp_path / "samples"
    sample = ["sample", f"model={tmp_path / 'run'}", "prompt=a red circle", "num=2", "steps=4"]
    assert ldm(*sample, f"sampler={sampler}", "guidance_rescale=0.5", f"out={out}") == 0
    assert pictures(out).std() > 1
    config = read_json(tmp_path / "run" / "model" / "scheduler" / "scheduler_config.json")
    index = read_json(tmp_path / "run" / "model" / "model_index.json")
    assert index["scheduler"] == ["diffusers", config["_class_name"]]


def test_prompts_from_a_file(sampled, tmp_path, world, ldm, capsys):
    file = tmp_path / "prompts.txt"
    file.write_text('a small blue square\n\na large ${x} cross, "quoted"\n')
    out = sampled("file", f"prompts={file}", "num=1", "negative=a red circle", "sampler=ddim")
    found = [row["prompt"] for row in read_json(out / "samples.json")["pictures"]]
    assert found == ["a small blue square", 'a large ${x} cross, "quoted"']
    assert ldm("sample", f"model={world.root}", f"prompts={tmp_path / 'no'}") == 2
    assert "there is no such file" in capsys.readouterr().err


def test_samples_of_another_request_are_moved_aside(sampled, world, ldm, capsys):
    out = sampled("mine", "prompt=a red circle", "num=3")
    first = pictures(out)
    again = ["sample", f"model={world.root}", f"out={out}", "steps=3", "block=4"]
    assert ldm(*again, "prompt=a red circle", "num=3") == 0
    assert "are there already" in capsys.readouterr().out
    assert ldm(*again, "prompt=a blue square", "num=2") == 0
    assert sorted(p.name for p in out.iterdir())[:2] == ["000000.png", "000001.png"]
    assert len(pictures(out)) == 2
    aside = out.with_name("mine.1")
    assert (pictures(aside) == first).all()
    assert read_json(aside / "samples.json")["pictures"][2]["prompt"] == "a red circle"


@pytest.mark.parametrize("wrong", ["steps=2000", "model=/nowhere", "sampler.eta=x"])
def test_a_request_that_cannot_run_leaves_the_samples_where_they_are(
    wrong, sampled, world, ldm, capsys
):
    out = sampled("kept", "prompt=a red circle", "num=1", "sampler=ddim")
    before = {path: path.read_bytes() for path in out.iterdir()}
    words = ["sample", f"model={world.root}", f"out={out}", "prompt=x", "sampler=ddim", wrong]
    assert ldm(*words) == 2
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert not out.with_name("kept.1").exists()


def test_a_model_without_its_schedule_is_a_sentence(world, ldm, tmp_path, capsys):
    shutil.copytree(world.diffusion / "model", tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "scheduler")
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')  # of another program
    words = ["sample", f"model={tmp_path / 'model'}", "prompt=x", "steps=2", "num=1"]
    assert ldm(*words, f"out={tmp_path / 'a'}") == 2
    assert "scheduler" in capsys.readouterr().err
    shutil.copytree(world.diffusion / "model" / "scheduler", tmp_path / "model" / "scheduler")
    assert ldm(*words, f"out={tmp_path / 'a'}") == 0
    assert read_json(tmp_path / "a" / "samples.json")["protocol"]["weights"] == "unknown"


def test_pictures_of_unknown_origin_are_not_replaced(world, ldm, tmp_path, capsys):
    (tmp_path / "000001.png").write_bytes(b"somebody's photograph")
    words = ["sample", f"model={world.root}", f"out={tmp_path}", "steps=2", "num=2", "prompt=x"]
    assert ldm(*words) == 2
    assert "holds 000001.png already" in capsys.readouterr().err
    assert (tmp_path / "000001.png").read_bytes() == b"somebody's photograph"


def test_a_recipe_evaluates_reports_and_skips_what_is_finished(world, ldm, tmp_path, capsys):
    """`ldm run` on the finished world: only evaluation and the report are left to do."""
    out = tmp_path / "recipe"
    shutil.copytree(world.root, out)
    evaluate = ["model=" + str(out), f"data.root={out / 'shards'}", "num_samples=16", "steps=2",
                "block=8", "metrics=[prompt_accuracy,reconstruction,clip_score_own,fd_own]",
                f"samples={out / 'samples'}", f"out={out / 'metrics.json'}"]  # fmt: skip
    train = [*world.settings["text_encoder"], f"data.root={out / 'shards'}",
             f"run={out / 'text_encoder'}"]  # fmt: skip
    # data.root belongs to the configuration, so a copied run is another run: made anew.
    steps = [
        {"name": "text_encoder", "command": "train", "arguments": [*train, "resume=never"]},
        {"name": "evaluate", "command": "evaluate", "arguments": evaluate},
    ]
    recipe = tmp_path / "configs" / "recipe"
    recipe.mkdir(parents=True)
    text = json.dumps({"out": str(out), "steps": steps})
    (recipe / "tiny.yaml").write_text("# @package _global_\n" + text)
    words = ["run", "recipe=tiny", "--config-dir", str(recipe.parent)]
    assert ldm(*words) == 0
    metrics = read_json(out / "metrics.json")
    assert {"prompt_accuracy", "psnr", "ssim", "clip_score_own", "fd_own-16"} <= set(metrics)
    for name, entry in metrics.items():
        assert set(entry) == {"value", "protocol"}, name
        # A number says how its own pictures were made, and nothing of how others were.
        generation = {"seed", "sampler", "steps", "guidance", "model"} & set(entry["protocol"])
        generated = name.partition(".")[2] not in ("real", "reconstructed")
        if name in ("psnr", "ssim") or not generated:
            assert not generation and entry["protocol"]["pictures"], name
        else:
            assert len(generation) == 5 and entry["protocol"]["n"] == 16, name
    page = (out / "report.html").read_text()
    assert "prompt_accuracy" in page and "<script src" not in page and "http" not in page.split()
    assert len(list((out / "samples").glob("0*.png"))) == 16
    capsys.readouterr()
    changed = (out / "metrics.json").stat().st_mtime_ns
    steps[0]["arguments"] = train
    (recipe / "tiny.yaml").write_text(
        "# @package _global_\n" + json.dumps({"out": str(out), "steps": steps})
    )
    assert ldm(*words) == 0
    said = capsys.readouterr().out
    assert "is finished (step 4)" in said and "evaluate: finished already" in said
    assert (out / "metrics.json").stat().st_mtime_ns == changed


def test_a_measure_says_what_it_lacks_before_anything_is_drawn(
    world, ldm, tmp_path, capsys, monkeypatch
):
    drawn = "ldm.apps.evaluations.sets.generated.drawn"
    monkeypatch.setattr(drawn, lambda *_, **__: pytest.fail("drawn"))
    shards = f"data.root={world.root / 'shards'}"
    words = ["evaluate", f"model={world.root}", shards, f"out={tmp_path / 'm.json'}"]
    for metric, message in {
        "fid": "weights-inception-2015-12-05-6726825d.pth is missing",
        "digits": "reads shards of data=digits",
        "fd_own": "4 real pictures are too few",
    }.items():
        assert ldm(*words, f"metrics=[reconstruction,{metric}]", "num_samples=4") == 2
        assert re.search(message, capsys.readouterr().err), metric
    assert not (tmp_path / "m.json").exists()
    # Reconstructions need no generated pictures.
    assert ldm(*words, "metrics=[reconstruction]", "num_samples=4") == 0
    assert set(read_json(tmp_path / "m.json")) == {"psnr", "ssim"}


def test_the_report_of_a_world_without_evaluation(world, tmp_path):
    shutil.copytree(world.root, tmp_path / "w")
    page = write_report(tmp_path / "w")
    assert page.is_file() and "data:image/png;base64," in page.read_text()


def test_an_interrupted_run_saves_and_the_same_command_goes_on(world, ldm, tmp_path):
    """The process is stopped in the middle; the result is that of a run that was not."""
    run = tmp_path / "run"
    words = world.train("diffusion", run, "learning_rate=constant", "checkpoint_every=1000")
    endless = [w for w in words if not w.startswith("max_steps")] + ["max_steps=100000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "ldm.apps.main", *endless, "validate_every=100000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip
    try:
        metrics = run / "metrics.jsonl"
        while process.poll() is None and not (metrics.is_file() and metrics.stat().st_size):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)  # until the first step is logged
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, said
    (saved,) = (run / "checkpoints").glob("*.pt")
    step = int(saved.stem.removeprefix("step_"))
    assert f"interrupted at step {step}" in said and "Traceback" not in said
    assert not (run / "model").exists() and rows(run)[-1]["step"] == step
    more = [w for w in words if not w.startswith("max_steps")] + [f"max_steps={step + 2}"]
    assert ldm(*more) == 0
    assert [r["step"] for r in rows(run) if "train/loss" in r] == list(range(1, step + 3))
    straight = [w for w in more if not w.startswith("run=")] + [f"run={tmp_path / 'straight'}"]
    assert ldm(*straight) == 0
    assert same(weights(run), weights(tmp_path / "straight"))
