"""Models conditioned by classes, by nothing, or by two text encoders: the whole road of each."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from ldm.interop.pipeline import read_pipeline
from ldm.manifest import read_json, write_json
from ldm.text.classes import ClassTable
from ldm.text.sdxl_text import SdxlText
from ldm.text.unconditional import Unconditional


@pytest.fixture(scope="module")
def shards(world, ldm, tmp_path_factory) -> Path:
    """Pictures in two class folders, wider than high."""
    root = tmp_path_factory.mktemp("classes")
    for name, color in (("cat", "red"), ("dog", "blue")):
        (root / "pictures" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (80 + i, 40), color).save(root / "pictures" / name / f"{i}.png")
    assert ldm("prepare", "data=folder", f"data.path={root / 'pictures'}", "data.size_px=32",
               "data.held_out_fraction=0.2", "data.captions=class",
               f"out={root / 'shards'}") == 0  # fmt: skip
    return root / "shards"


@pytest.fixture(scope="module")
def cache(world, ldm, shards):
    def make(out: Path, *words: str) -> int:
        return ldm("cache", f"autoencoder_run={world.autoencoder}", f"data.root={shards}",
                   f"out={out}", "block=8", *words)  # fmt: skip

    return make


def train(world, latents: Path, run: Path, *words: str) -> list[str]:
    return ["train", *world.settings["diffusion"], f"data.root={latents}", f"run={run}", *words]


def test_classes_are_learned_with_the_denoiser(world, ldm, cache, tmp_path, capsys):
    latents, run = tmp_path / "latents", tmp_path / "run"
    assert cache(latents, "condition=classes") == 0
    assert "2 classes: cat, dog" in capsys.readouterr().out
    assert "text_encoder" not in read_json(latents / "manifest.json")["inputs"]
    words = train(world, latents, run)
    assert ldm(*words, "max_steps=2") == 0
    first = read_pipeline(run / "model").text_encoder
    assert ldm(*words) == 0  # and it goes on
    table = read_pipeline(run / "model").text_encoder
    assert isinstance(table, ClassTable) and table.names == ["cat", "dog"]
    assert not torch.equal(table.embedding.weight, first.embedding.weight)
    state = torch.load(run / "checkpoints" / "step_000000004.pt", weights_only=True)
    learned = state["trained"]["denoiser"]
    torch.testing.assert_close(
        table.embedding.weight, learned["ema"]["class_encoder.embedding.weight"]
    )
    # In one go it is the same, bit for bit.
    assert ldm(*train(world, latents, tmp_path / "whole")) == 0
    whole = read_pipeline(tmp_path / "whole" / "model").text_encoder
    assert torch.equal(whole.embedding.weight, table.embedding.weight)

    sample = ["sample", f"model={run}", "num=1", "steps=2", "block=2", f"out={tmp_path / 'out'}"]
    assert ldm(*sample, "prompt=dog") == 0
    assert read_json(tmp_path / "out" / "samples.json")["protocol"]["class_encoder"]
    capsys.readouterr()
    assert ldm(*sample, "prompt=wolf") == 2
    assert "'wolf' is none of the 2 classes" in capsys.readouterr().err
    assert (tmp_path / "out" / "000000.png").is_file()
    assert ldm("export", f"model={run}", f"out={tmp_path / 'export'}") == 2
    assert "condition=classes" in capsys.readouterr().err

    capsys.readouterr()
    assert ldm(*train(world, latents, tmp_path / "x"), "preview.prompts=[wolf]") == 2
    assert "'wolf' is none of the 2 classes" in capsys.readouterr().err
    assert not (tmp_path / "x" / "checkpoints").exists()

    # Another set of classes begins with those tokens it knows.
    assert ldm(*train(world, latents, tmp_path / "more"), f"init={run}", "lr=1e-9") == 0
    more = read_pipeline(tmp_path / "more" / "model").text_encoder
    torch.testing.assert_close(more.embedding.weight, table.embedding.weight, rtol=0, atol=1e-6)


def test_without_a_condition(world, ldm, cache, shards, tmp_path, capsys):
    latents, run = tmp_path / "latents", tmp_path / "run"
    assert cache(latents, "condition=none") == 0
    words = train(world, latents, run)
    assert ldm(*words) == 2
    fitting = ["context_dim=null", "pooling_heads=null", "transformer_depth=[0,0]"]
    fitting = [f"backbone.{setting}" for setting in fitting]
    assert f"set {' '.join(fitting)}." in capsys.readouterr().err
    assert ldm(*words, *fitting) == 0
    assert isinstance(read_pipeline(run / "model").text_encoder, Unconditional)
    assert {p.name for p in (run / "model").iterdir() if p.is_dir()} == {"unet", "vae", "scheduler"}
    sample = ["sample", f"model={run}", "num=2", "steps=2", "block=2", f"out={tmp_path / 'out'}"]
    assert ldm(*sample) == 0
    capsys.readouterr()
    assert ldm(*sample, "prompt=cat", f"out={tmp_path / 'other'}") == 2
    assert "is conditioned by nothing" in capsys.readouterr().err
    evaluated = ["evaluate", f"model={run}", f"data.root={shards}", "num_samples=4", "steps=2"]
    assert ldm(*evaluated, "metrics=[reconstruction]", f"out={tmp_path / 'm.json'}",
               f"samples={tmp_path / 'made'}") == 0  # fmt: skip
    rows = read_json(tmp_path / "made" / "samples.json")["pictures"]
    assert {row["prompt"] for row in rows} == {""}
    assert ldm("sample", f"like={tmp_path / 'made' / rows[1]['file']}",
               f"out={tmp_path / 'like'}") == 0  # fmt: skip
    made, again = (Image.open(tmp_path / name).tobytes()
                   for name in (f"made/{rows[1]['file']}", "like/000000.png"))  # fmt: skip
    assert made == again


def test_two_text_encoders_and_sizes(world, ldm, cache, tmp_path, capsys):
    latents, run = tmp_path / "latents", tmp_path / "run"
    both = f"text_run=[{world.text_encoder},{world.text_encoder}]"
    assert cache(latents, both) == 0
    inputs = read_json(latents / "manifest.json")["inputs"]
    assert {"text_encoder", "text_encoder_2"} <= inputs.keys()
    words = train(world, latents, run, "backbone.context_dim=32", "backbone.pooling_heads=null")
    assert ldm(*words) == 2
    assert "(vector_dim=null) does not fit" in (said := capsys.readouterr().err)
    assert "set backbone.vector_dim=1552." in said  # 16 + 6 x 256
    assert ldm(*words, "backbone.vector_dim=1552") == 0
    model = read_pipeline(run / "model")
    assert isinstance(model.text_encoder, SdxlText) and model.text_encoder.vector_dim == 1552
    sample = ["sample", f"model={run}", "prompt=cat", "num=1", "steps=2", "block=1"]
    assert ldm(*sample, f"out={tmp_path / 'a'}") == 0
    assert ldm(*sample, f"out={tmp_path / 'b'}", "sizes=[32,32,0,0,32,32]") == 0
    assert ldm(*sample, f"out={tmp_path / 'c'}", "sizes=[32,32,9,9,32,32]") == 0
    a, b, c = (Image.open(tmp_path / name / "000000.png").tobytes() for name in "abc")
    assert a == b != c
    picture = tmp_path / "c" / "000000.png"
    assert ldm("sample", f"like={picture}", f"out={tmp_path / 'like'}") == 0
    assert Image.open(tmp_path / "like" / "000000.png").tobytes() == c
    capsys.readouterr()
    assert ldm(*sample, f"out={tmp_path / 'd'}", "sizes=[32,32]") == 2
    assert "is told 6, as [32, 32, 0, 0, 32, 32]" in capsys.readouterr().err
    assert ldm("export", f"model={run}", f"out={tmp_path / 'export'}") == 0
    file = tmp_path / "file"
    assert ldm("export", f"model={run}", "format=single_file", f"out={file}") == 0
    # Towers trained here pad alike; readers of such files pad the second one's captions with 0.
    assert "text_encoder_2: pad_token_id 49407 (taken for 0)" in capsys.readouterr().out
    assert ldm("import", f"from={file}", f"run={tmp_path / 'imported'}") == 0
    assert ldm(*sample, f"model={tmp_path / 'imported'}", f"out={tmp_path / 'e'}") == 0
    first, again = (Image.open(tmp_path / name / "000000.png") for name in "ae")
    assert max(high for _, high in ImageChops.difference(first, again).getextrema()) <= 1
    card = (tmp_path / "export" / "README.md").read_text()
    assert "| second text encoder | ClipText |" in card and "All networks were trained" in card
    imported, more = tmp_path / "imported_folder", tmp_path / "imported_latents"
    assert ldm("import", f"from={tmp_path / 'export'}", f"run={imported}") == 0
    assert cache(more, f"autoencoder_run={imported}", f"text_run={imported}") == 0
    assert ldm("train", "--config-dir", imported / "configs", "experiment=imported",
               f"data.root={more}", f"run={tmp_path / 'on'}", "max_steps=2", "global_batch=4",
               "checkpoint_every=2", "validate_every=2", "preview.num=1", "preview.steps=1",
               "warmup_steps=1") == 0  # fmt: skip
    assert isinstance(read_pipeline(tmp_path / "on" / "model").text_encoder, SdxlText)
    # What it was made from is found again, and a changed tower is noticed.
    assert cache(tmp_path / "again", f"text_run={run}") == 0
    assert ldm("check", "train", "experiment=demo_text_encoder", "text_encoder=sdxl") == 2
    assert "learn one by one" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "condition=text needs text_run=RUN"),
        (["condition=classes", "text_run=RUN"], "is not used with condition=classes"),
        (["condition=class"], "must be one of text, classes, none"),
        (["text_run=[a,b,c]"], "a run, a list of two runs"),
        (["text_run=NOWHERE"], "NOWHERE does not exist"),
    ],
)
def test_mistakes_are_named(cache, tmp_path, capsys, words, message):
    assert cache(tmp_path / "latents", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "latents").exists()


def test_captions_that_are_no_classes_are_noticed_before_anything_is_encoded(
    world, ldm, tmp_path, capsys
):
    out = tmp_path / "latents"
    assert ldm("cache", f"autoencoder_run={world.autoencoder}", f"data.root={world.shards}",
               f"out={out}", "condition=classes") == 2  # fmt: skip
    assert "Are these captions? Then use condition=text" in capsys.readouterr().err
    assert not out.exists()


def test_a_model_is_its_parts_and_its_size(world, ldm, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(world.diffusion / "model", model)
    words = ["sample", f"model={model}", "prompt=a red circle", "num=1", "steps=1", "block=1",
             f"out={tmp_path / 'out'}"]  # fmt: skip
    assert ldm(*words) == 0
    write_json(model / "model_index.json", read_json(model / "model_index.json") | {"size_px": 64})
    capsys.readouterr()
    assert ldm("sample", f"like={tmp_path / 'out' / '000000.png'}", f"out={tmp_path / 'x'}") == 2
    assert "another size_px" in capsys.readouterr().err
    assert ldm(*words) == 0
    with Image.open(tmp_path / "out" / "000000.png") as picture:
        assert picture.size == (64, 64)
    shutil.rmtree(model / "text_encoder")
    capsys.readouterr()
    assert ldm(*words, f"out={tmp_path / 'y'}") == 2
    assert "text_encoder/ is missing" in capsys.readouterr().err
