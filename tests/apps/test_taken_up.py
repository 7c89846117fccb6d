"""A run that goes on by its name alone, begun here and taken up from elsewhere."""

import os
import shutil

import pytest
import torch

from ldm.apps.record.file import Typed, read_record
from ldm.apps.taken_up import taken_up
from ldm.manifest import read_json, read_manifest


@pytest.fixture
def begun(world, ldm, tmp_path, monkeypatch):
    """A directory A in which a run began with relative paths, and B beside it, where we are."""
    (tmp_path / "A").mkdir()
    (tmp_path / "B").mkdir()
    os.symlink(world.latents, tmp_path / "A" / "latents")
    monkeypatch.chdir(tmp_path / "A")
    words = ["train", *world.settings["diffusion"], "data.root=latents", "run=runs/x"]
    assert ldm(*words, f"init={os.path.relpath(world.diffusion)}", "max_steps=2") == 0
    monkeypatch.chdir(tmp_path / "B")
    return tmp_path


def test_a_run_goes_on_from_another_directory(begun, ldm, capsys):
    run = begun / "A" / "runs" / "x"
    assert ldm("train", "run=../A/runs/x", "max_steps=3", "lr=2e-3") == 0
    said = capsys.readouterr().out
    assert "taken up at step 2" in said and "lr: 0.001 -> 0.002" in said and "init" not in said
    assert read_manifest(run).facts["step"] == 3
    first, second = read_record(run)["sittings"]
    assert first["launch_directory"].endswith("/A") and second["launch_directory"].endswith("/B")
    assert f"data.root='{begun}/A/latents'" in second["overrides"]
    assert not list((begun / "B").iterdir())
    assert ldm("train", "run=../A/runs/x") == 0  # and once more, with what was added
    assert f"{os.path.join('..', 'A', 'runs', 'x')} is finished" in capsys.readouterr().out


def test_the_whole_command_from_elsewhere_is_the_same_run(begun, world, ldm, capsys):
    """Inputs that are typed as one sees them from there: no setting differs."""
    words = ["train", *world.settings["diffusion"], "data.root=../A/latents", "run=../A/runs/x"]
    init = os.path.relpath(world.diffusion)
    assert ldm(*words, f"init={init}", "max_steps=2") == 0
    said = capsys.readouterr()
    assert "is finished" in said.out and "other settings" not in said.out + said.err


def test_a_run_that_has_moved_with_its_inputs_goes_on(begun, world, ldm, capsys):
    shutil.move(begun / "A", begun / "C")
    model = shutil.copytree(world.diffusion, begun / "model")  # of init=, elsewhere too
    words = ["run=../C/runs/x", "data.root=../C/latents", f"init={model}", "max_steps=3"]
    assert ldm("train", *words) == 0
    assert "free     init:" in capsys.readouterr().out
    other = torch.load(begun / "C/runs/x/checkpoints/step_000000003.pt", weights_only=True)
    assert other["record"]["config"]["data"]["root"] == str(begun / "C/latents")


def test_other_weights_to_begin_with_are_another_run(begun, world, ldm, capsys):
    model = shutil.copytree(world.diffusion, begun / "model")
    index = model / "model" / "unet" / "config.json"
    index.write_text(index.read_text() + "\n")
    assert ldm("train", "run=../A/runs/x", f"init={model}", "max_steps=3") == 2
    assert "was trained on init with the fingerprint" in capsys.readouterr().err


def test_who_says_what_is_trained_is_taken_at_his_word(world, tmp_path):
    for words in (["experiment=demo_diffusion", f"run={world.diffusion}"], [f"run={tmp_path}"], []):
        assert taken_up(Typed(words)) == Typed(words)


def test_words_do_not_pile_up(world):
    run = f"run={world.diffusion}"
    words = taken_up(Typed([run, "lr=1", "resume=never"])).words
    again = [word.partition("=")[0] for word in words]
    assert len(again) == len(set(again)) and words[-1] == "resume=never"
    assert "lr=1" in words and read_json(world.diffusion / "inputs.json")["latents"]


def test_images_take_the_place_of_steps_and_the_other_way(world):
    words = taken_up(Typed([f"run={world.diffusion}", "max_images=80"])).words
    assert "max_images=80" in words and not [word for word in words if "max_steps" in word]


def test_check_knows_such_a_run_too(world, ldm, capsys):
    assert ldm("check", "train", f"run={world.diffusion}") == 0
    assert "stage diffusion: settings are sound" in capsys.readouterr().out


def test_looks_ahead_take_it_up_as_well(begun, ldm, capsys):
    capsys.readouterr()
    assert ldm("config", "run=../A/runs/x", "max_steps", "data.root") == 0
    said = capsys.readouterr().out
    assert "max_steps: 2" in said and f"root: {begun}/A/latents" in said
    assert ldm("plan", "run=../A/runs/x", "out=plan.json") == 0
    assert read_json(begun / "B" / "plan.json")["steps"] == 2
