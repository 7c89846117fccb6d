"""Models out to other programs and in again, by the commands."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ldm.apps.lineage import lineage
from ldm.interop.diffusers import read_scale
from ldm.interop.pipeline import read_pipeline
from ldm.manifest import read_json, read_manifest
from ldm.random import normal, stream

NAME = "diffusion_pytorch_model.safetensors"
PROMPT = "wow! a large red circle, on navy!"
HOW = ["sampler=ddim", "steps=5", "guidance=3.0", "seed=7", "num=3", "block=3"]


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.glob("0*.png"))]).astype(int)


@pytest.fixture(scope="module")
def drawn(world, ldm, tmp_path_factory) -> Any:
    """Pictures (3, H, W, 3) in 0..255 that a model makes of the prompt."""

    def draw(model: Path) -> np.ndarray:
        out = tmp_path_factory.mktemp("drawn") / "pictures"
        assert ldm("sample", f"model={model}", f"prompt={PROMPT}", *HOW, f"out={out}") == 0
        return pictures(out)

    return draw


@pytest.fixture(scope="module")
def exported(world, ldm, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "demo"
    assert ldm("export", f"model={world.root}", f"out={out}", "license=apache-2.0") == 0
    return out


@pytest.fixture(scope="module")
def imported(exported, ldm, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("imports") / "run"
    assert ldm("import", f"from={exported}", f"run={run}") == 0
    return run


def test_the_export_draws_our_picture_in_diffusers(world, exported, drawn):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(exported, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = normal(stream(0, "initial"), torch.arange(7, 10), (4, 8, 8)).float()
    images = pipeline(
        [PROMPT] * 3, latents=noise, num_inference_steps=5, guidance_scale=3.0, output_type="np"
    ).images
    expected = drawn(world.root)
    assert expected.std() > 1
    assert abs((images * 255).round().astype(int) - expected).max() <= 1


def test_the_export_knows_its_own_work(world, exported, ldm, capsys):
    words = ["export", f"model={world.root}", f"out={exported}"]
    before = {p: p.stat().st_mtime_ns for p in exported.rglob("*")}
    assert ldm(*words, "license=apache-2.0") == 0
    assert "exported there already" in capsys.readouterr().out
    assert ldm(*words) == 2  # another card
    assert "holds something else already" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in exported.rglob("*")} == before
    assert not [p for p in exported.parent.iterdir() if p != exported]  # nothing half-made


def header_of(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_says_what_the_model_is_made_of(world, exported):
    card = (exported / "README.md").read_text()
    header = header_of(card)
    assert header["license"] == "apache-2.0" and header["pipeline_tag"] == "text-to-image"
    assert "model-index" not in header and "None were measured" in card
    kinds = {"run_diffusion", "latents", "run_autoencoder", "run_text_encoder", "shards"}
    found = lineage(str(world.root))
    assert set(found) == kinds
    for kind in ("run_diffusion", "run_autoencoder", "run_text_encoder"):
        assert found[kind].fingerprint in card
    assert "64 pictures, source `shapes`" in card and "denoiser: 4 steps" in card
    assert "none is pretrained" in card
    # An export is a model too, and its origin is still known.
    assert set(lineage(str(exported))) >= {"export", "run_diffusion", "shards"}


def test_the_card_shows_the_numbers_of_this_model_only(world, ldm, tmp_path, capsys):
    shutil.copytree(world.root, tmp_path / "w")
    model = f"model={tmp_path / 'w'}"
    metrics = tmp_path / "w" / "metrics.json"
    assert ldm("evaluate", model, f"data.root={world.shards}", "metrics=[reconstruction]",
               "num_samples=4", f"out={metrics}") == 0  # fmt: skip
    records = read_json(metrics)
    foreign = {"value": 1.0, "protocol": {"model": "another", "hash": "x"}}
    metrics.write_text(json.dumps(records | {"fid_4": foreign}))
    assert ldm("export", model, f"out={tmp_path / 'e'}") == 0
    card = (tmp_path / "e" / "README.md").read_text()
    (entry,) = header_of(card)["model-index"]
    values = {m["type"]: m["value"] for m in entry["results"][0]["metrics"]}
    assert values == {name: pytest.approx(records[name]["value"]) for name in ("psnr", "ssim")}
    assert records["psnr"]["protocol"]["hash"] in card and "fid_4" not in card
    assert "license" not in header_of(card) and "No licence was given" in card
    (tmp_path / "m.json").write_text(json.dumps({"fid_4": foreign}))
    assert ldm("export", model, f"out={tmp_path / 'f'}", f"metrics_file={tmp_path / 'm.json'}") == 2
    assert "holds no number of this model" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_an_imported_model_samples(world, imported, exported, drawn, ldm, capsys):
    assert abs(drawn(imported) - drawn(world.root)).max() <= 1
    manifest = read_manifest(imported, kind="run_import")
    assert manifest.settings["from"] == str(exported)
    assert ldm("import", f"from={exported}", f"run={imported}") == 0
    assert "imported there already" in capsys.readouterr().out


def test_an_imported_model_is_evaluated(world, imported, ldm, tmp_path, capsys):
    words = ["evaluate", f"model={imported}", f"data.root={world.shards}", "num_samples=16",
             "steps=2", f"out={tmp_path / 'm.json'}"]  # fmt: skip
    assert ldm(*words, "metrics=[reconstruction,prompt_accuracy]") == 0
    assert {"psnr", "prompt_accuracy"} <= set(read_json(tmp_path / "m.json"))
    for metric in ("fd_own", "clip_score_own"):
        capsys.readouterr()
        assert ldm(*words, f"metrics=[reconstruction,{metric}]") == 2
        said = capsys.readouterr()
        assert "need the model's own image tower" in said.err and "psnr" not in said.out


def test_an_imported_model_trains_on(world, imported, ldm, tmp_path, capsys):
    """Cache and training take it whole; its denoiser goes on seeing latents on its own scale."""
    latents, run = tmp_path / "latents", tmp_path / "run"
    assert ldm("cache", f"autoencoder_run={imported}", f"text_run={imported}",
               f"data.root={world.shards}", f"out={latents}", "block=16") == 0  # fmt: skip
    words = ["train", "--config-dir", imported / "configs", "experiment=imported",
             f"data.root={latents}", f"run={run}", "max_steps=2", "global_batch=4", "lr=1e-12",
             "preview.num=2", "preview.steps=2"]  # fmt: skip
    assert ldm(*words) == 0
    before, after = read_pipeline(imported / "model"), read_pipeline(run / "model")
    for name, value in before.state_dict().items():
        if not name.startswith("scale."):
            torch.testing.assert_close(after.state_dict()[name], value, rtol=0, atol=1e-6)
    # Folded statistics: the cache's own would be other numbers than this 1.
    assert read_scale(run / "model" / "vae").std.flatten().tolist() == pytest.approx([1.0])
    other = ["init=" + str(world.diffusion), f"run={tmp_path / 'other'}"]
    assert ldm(*[w for w in words if not str(w).startswith("run=")], *other) == 0
    scale = read_scale(tmp_path / "other" / "model" / "vae")  # another latent space: the cache's
    assert scale.std.numel() == 4
    assert ldm("export", f"model={run}", f"out={tmp_path / 'again'}") == 0
    card = (tmp_path / "again" / "README.md").read_text()
    assert f"began with the weights of {imported}" in card
    assert "Imported parts stay" in card and "none is pretrained" not in card


def test_what_cannot_be_imported_is_said(world, exported, ldm, tmp_path, capsys):
    def said(*words: str) -> str:
        assert ldm("import", *words) == 2
        return capsys.readouterr().err

    run = f"run={tmp_path / 'run'}"
    assert "Nothing is downloaded" in said("from=runwayml/stable-diffusion-v1-5", run)
    assert "is no model: it holds neither" in said(f"from={world.shards}", run)
    several = tmp_path / "several"
    several.mkdir()
    for name in ("a.ckpt", "b.safetensors"):
        (several / name).write_bytes(b"")
    assert "several single files (a.ckpt, b.safetensors)" in said(f"from={several}", run)
    broken = tmp_path / "broken"
    shutil.copytree(exported, broken)
    shutil.rmtree(broken / "scheduler")
    assert "scheduler/ is missing" in said(f"from={broken}", run)
    assert not list(tmp_path.glob("*run*"))
    assert "holds something else already" in said(f"from={exported}", f"run={world.diffusion}")


def test_a_single_file_goes_out_and_in(world, drawn, ldm, tmp_path, capsys):
    words = ["format=single_file", f"out={tmp_path / 'file'}"]
    assert ldm("export", f"model={world.root}", *words) == 2
    assert "setting backbone.pooling_heads= of this model has no place" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    plain = tmp_path / "plain"
    assert ldm(*world.train("diffusion", plain, "max_steps=2", "backbone.pooling_heads=null")) == 0
    assert ldm("export", f"model={plain}", *words) == 0
    files = {p.name for p in (tmp_path / "file").iterdir()}
    assert files == {"file.safetensors", "README.md", "manifest.json"}
    card = (tmp_path / "file" / "README.md").read_text()
    assert "`file.safetensors` holds the whole model" in card and "library_name" not in card
    assert "- text_encoder: pad_token_id 49407 (taken for 0)" in card
    for source in (tmp_path / "file", tmp_path / "file" / "file.safetensors"):
        run = tmp_path / f"run_{source.suffix}"
        assert ldm("import", f"from={source}", f"run={run}") == 0
        assert {p.name for p in run.iterdir()} == {"model", "configs", "manifest.json"}
    assert abs(drawn(run) - drawn(plain)).max() <= 1
    out = f"out={tmp_path / 'again'}"
    assert ldm("export", f"model={run}", "format=single_file", out) == 0
    first = load_file(tmp_path / "file" / "file.safetensors")
    again = load_file(tmp_path / "again" / "again.safetensors")
    assert first.keys() == again.keys() and all(torch.equal(first[k], again[k]) for k in first)
    short = {k: v for k, v in first.items() if not k.endswith("out.2.bias")}
    configs = safe_open(tmp_path / "file" / "file.safetensors", framework="pt").metadata()
    save_file(short, tmp_path / "short.safetensors", metadata=configs)
    capsys.readouterr()
    assert ldm("import", f"from={tmp_path / 'short.safetensors'}", f"run={tmp_path / 'x'}") == 2
    said = capsys.readouterr().err
    assert "missing: model.diffusion_model.out.2.bias" in said and "unpacked" not in said
    assert f"{tmp_path / 'short.safetensors'}" in said
    (tmp_path / "old.ckpt").write_bytes(b"no pickle")
    assert ldm("import", f"from={tmp_path / 'old.ckpt'}", f"run={tmp_path / 'x'}") == 2
    assert "old.ckpt is neither a safetensors nor a torch file" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_what_is_taken_of_a_file_or_folder_is_said(exported, ldm, tmp_path, capsys):
    def said(code: int, *words: object) -> str:
        assert ldm("import", *words) == code
        return "".join(capsys.readouterr())

    folder, run = tmp_path / "folder", f"run={tmp_path / 'run'}"
    shutil.copytree(exported, folder)
    tower = folder / "text_encoder" / "model.safetensors"
    tower.rename(tower.with_name("model.fp16.safetensors"))
    taken = "text_encoder: model.fp16.safetensors was taken, as there is no model.safetensors"
    assert taken in said(0, f"from={folder}", run)
    assert "leave in it the weights that you mean" in said(2, f"from={folder}", run, "weights=raw")
    assert "scheduler_config.json says it" in said(2, f"from={folder}", run, "prediction=v")


def test_averages_and_prediction_of_a_checkpoint_are_chosen(world, ldm, tmp_path, capsys):
    plain, file = tmp_path / "plain", tmp_path / "full.ckpt"
    words = ["max_steps=1", "backbone.pooling_heads=null", "prediction=v"]
    assert ldm(*world.train("diffusion", plain, *words)) == 0
    out = tmp_path / "out"
    assert ldm("export", f"model={plain}", "format=single_file", f"out={out}") == 0
    assert "scheduler: v-prediction (in ComfyUI" in capsys.readouterr().out
    source = out / "out.safetensors"
    state, unet = load_file(source), "model.diffusion_model."
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value + 1
        for name, value in state.items()
        if name.startswith(unet)
    }
    settings = safe_open(source, framework="pt").metadata()
    both = tmp_path / "both.safetensors"
    save_file(state | averages, both, metadata=settings)
    biases = []
    for i, choice in enumerate(([], ["weights=ema"], ["weights=raw", "prediction=v"])):
        assert ldm("import", f"from={both}", f"run={tmp_path / f'run_{i}'}", *choice) == 0
        weights = load_file(tmp_path / f"run_{i}" / "model" / "unet" / NAME)
        biases.append(weights["conv_out.bias"] - state[f"{unet}out.2.bias"])
    assert [float(bias.mean()) for bias in biases] == pytest.approx([1.0, 1.0, 0.0])
    assert "averaged weights (model_ema.*) were taken" in capsys.readouterr().out
    again = ["import", f"from={both}", f"run={tmp_path / 'run_2'}"]
    assert ldm(*again, "weights=raw", "prediction=v") == 0  # is there already
    assert ldm(*again) == 2 and "holds something else" in capsys.readouterr().err
    other = f"run={tmp_path / 'x'}"
    assert ldm("import", f"from={source}", other, "prediction=epsilon") == 2
    assert "its settings say prediction_type v_prediction" in capsys.readouterr().err
    torch.save({"state_dict": state}, file)  # which has no settings: taken for Stable Diffusion 1
    assert ldm("import", f"from={file}", other) == 2
    assert f"{file}: unet/config.json does not describe" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))
