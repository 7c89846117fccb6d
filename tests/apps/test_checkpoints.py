"""What a run leaves on its way: resume state without frozen weights, and models to sample from."""

import ast
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ldm.apps.lineage import lineage
from ldm.callbacks import checkpoint_file
from ldm.callbacks.checkpoint_file import read
from ldm.manifest import read_manifest

CHECKOUT = Path(__file__).resolve().parents[2]
UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


def names(directory):
    return sorted(p.name for p in directory.iterdir())


def newest(run):
    return read(sorted((run / "checkpoints").glob("*.pt"))[-1])["trained"]


def keys(tree, prefix=""):
    """The path of every leaf of nested containers."""
    items = dict(enumerate(tree)) if isinstance(tree, list | tuple) else tree
    if not isinstance(items, dict):
        return {prefix}
    return {k for key, part in items.items() for k in keys(part, f"{prefix}/{key}")}


def test_resume_state_holds_what_is_trained_and_nothing_frozen(world):
    product = {"text_encoder": "text_encoder", "autoencoder": "vae", "diffusion": "unet"}
    trained = {"autoencoder": ["autoencoder", "discriminator", "likelihood"]}
    for stage, part in product.items():
        (model,) = (world.root / stage / "model" / part).glob("*.safetensors")
        state = newest(world.root / stage)
        name, *others = sorted(trained.get(stage, state))
        assert sorted(state) == [name, *others]
        prefix = "model." if stage == "text_encoder" else ""  # of open_clip's file in ours
        weights = {prefix + key: value for key, value in load_file(model).items()}
        assert state[name]["network"].keys() == weights.keys()
        assert all(torch.equal(value, weights[key]) for key, value in state[name]["ema"].items())


def test_everything_we_write_loads_as_plain_data(world):
    files = sorted(world.root.rglob("*.pt"))
    assert len(files) == 6
    assert all(torch.load(file, weights_only=True) for file in files)
    written = {p.suffix for p in world.root.rglob("*") if p.is_file()}
    assert not written & {".ckpt", ".pth", ".bin", ".pkl", ".pickle"}


def test_nothing_in_the_package_unpickles():
    """Every torch.load has weights_only=True, and no other loader of pickles is called."""
    loads = 0
    for file in sorted((CHECKOUT / "ldm").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            call = ast.unparse(node.func)
            assert call not in ("pickle.load", "pickle.loads", "joblib.load"), file
            if call == "numpy.load" or call == "np.load":
                assert "allow_pickle=True" not in ast.unparse(node), file
            if call == "torch.load":
                loads += 1
                assert "weights_only=True" in ast.unparse(node), file
    assert loads


def test_models_on_the_way_cost_their_trained_part_only(world, ldm, tmp_path, capsys):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    run = tmp_path / "run"
    words = world.train("diffusion", run, "models_every=2", "max_steps=5", "preview.num=0")
    assert ldm(*words) == 0
    models = run / "models"
    assert names(models) == ["step_000000002", "step_000000004"]
    first, second = sorted(models.iterdir())
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    whole = [p.relative_to(run / "model") for p in (run / "model").rglob("*.*")]
    assert files == sorted([*whole, Path("manifest.json")])
    for file in files:
        own = file.parts[0] in ("unet", "manifest.json")
        assert (first / file).samefile(second / file) != own, file
    # The averaged weights of that very step.
    average = read(run / "checkpoints" / "step_000000004.pt")["trained"]["denoiser"]["ema"]
    weights = load_file(second / UNET)
    assert all(torch.equal(weights[key], value) for key, value in average.items())
    UNet2DConditionModel.from_pretrained(first / "unet")
    AutoencoderKL.from_pretrained(second / "vae")
    sample = ["prompt=a red circle", "num=1", "steps=2", f"out={tmp_path / 'samples'}"]
    assert ldm("sample", f"model={first}", *sample) == 0
    found = lineage(str(first))
    assert found["run_diffusion"].facts == {"step": 2} and "shards" in found
    (run / "manifest.json").unlink()
    shutil.rmtree(run / "model")
    capsys.readouterr()
    assert ldm("sample", f"model={run}", *sample) == 2
    said = capsys.readouterr().err
    assert "is not finished" in said and f"Run its command again, or take {second}." in said


def test_only_the_last_models_are_kept_and_frozen_parts_outlive_the_first(
    world, ldm, tmp_path, monkeypatch
):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    run = tmp_path / "run"
    words = world.train("diffusion", run, "models_every=1", "keep_models=2", "preview.num=0")
    assert ldm(*words) == 0
    assert names(run / "models") == ["step_000000003", "step_000000004"]
    for file in (run / "model").rglob("*.*"):
        copy = run / "models" / "step_000000004" / file.relative_to(run / "model")
        assert copy.read_bytes() == file.read_bytes(), file


def test_a_stage_of_one_part_has_models_too(world, ldm, tmp_path):
    run = tmp_path / "run"
    assert ldm(*world.train("autoencoder", run, "models_every=2")) == 0
    second = run / "models" / "step_000000004"
    assert names(second) == ["manifest.json", "vae"]
    words = ["cache", f"text_run={world.text_encoder}", f"data.root={world.shards}"]
    assert ldm(*words, f"autoencoder_run={second}", f"out={tmp_path / 'latents'}") == 0


def test_a_model_that_cannot_be_written_is_said_and_half_of_it_never_found(
    world, ldm, tmp_path, monkeypatch, capsys
):
    from ldm.apps.stages import text_encoder

    run, assemble = tmp_path / "run", text_encoder.assemble

    def full_disk(folder):
        (folder / "text_encoder").mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    def assembled(*arguments):
        made = assemble(*arguments)
        made.write_trained = full_disk  # the first is written whole
        return made

    monkeypatch.setattr(text_encoder, "assemble", assembled)
    assert ldm(*world.train("text_encoder", run, "models_every=1", "max_steps=3")) == 0
    assert names(run / "models") == ["step_000000001"]
    said = capsys.readouterr().out
    assert said.count("No space left on device). Training goes on") == 2
    assert "the next is due at step 3" in said


def test_an_interruption_that_could_not_be_saved_is_no_success(
    world, ldm, tmp_path, monkeypatch, capsys
):
    write = checkpoint_file.write

    def disk_that_fills(path, state):
        if state["step"] == 2:
            return write(path, state)
        os.kill(os.getpid(), signal.SIGTERM)  # the run is told to stop
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_file, "write", disk_that_fills)
    words = world.train("text_encoder", tmp_path / "run", "max_steps=1000", "log_every=1000")
    assert ldm(*words) == 1
    said = capsys.readouterr()
    assert "could not be saved (No space left on device); the same command goes on from step 2" in (
        said.err
    )
    assert "that of step 2 stays. Training goes on, and it is tried again at step 6" in said.out


def test_what_a_killed_save_left_is_removed_at_the_next_start(world, ldm, tmp_path):
    run = tmp_path / "run"
    assert ldm(*world.train("text_encoder", run, "max_steps=2")) == 0
    (run / "checkpoints" / ".step_000000004.pt.999.tmp").write_bytes(b"half")
    (run / "models" / ".step_000000002.999.tmp" / "unet").mkdir(parents=True)
    assert ldm(*world.train("text_encoder", run, "max_steps=3")) == 0
    assert not list(run.rglob("*.tmp"))


def test_a_run_that_was_killed_between_its_last_step_and_its_end(world, ldm, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(world.text_encoder, run)
    (run / "manifest.json").unlink()
    shutil.rmtree(run / "model")
    assert ldm(*world.train("text_encoder", run)) == 0
    before, after = read_manifest(world.text_encoder), read_manifest(run)
    assert "val/loss" in after.facts and after.facts == before.facts
    assert after.fingerprint == before.fingerprint


@pytest.mark.slow
def test_the_keys_of_a_checkpoint_do_not_depend_on_the_number_of_processes(world, tmp_path):
    two = ["trainer=ddp", "accelerator=cpu", "devices=2", "max_steps=1", "preview.num=0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    words = world.train("diffusion", tmp_path / "two", *two)
    subprocess.run([sys.executable, "-m", "ldm.apps.main", *words], env=environment, check=True)
    assert keys(newest(tmp_path / "two")) == keys(newest(world.diffusion))
