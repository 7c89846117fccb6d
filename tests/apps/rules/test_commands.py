"""Every command is verified before it works: what does not fit, with what to type."""

import json
import shutil

import pytest

from ldm.apps.compose import compose
from ldm.apps.main import main
from ldm.apps.rules.case import Case
from ldm.apps.rules.table import lacking, remarks, wrong
from ldm.manifest import read_json


def told(command, *words):
    case = Case(compose(command, [str(word) for word in words]))
    return wrong(command, case) or list(lacking(command, case, looking=True))


def test_sampling(world, tmp_path):
    fine = (f"model={world.diffusion}", "prompt=a red circle", f"out={tmp_path / 'out'}")
    assert told("sample", *fine) == []
    (tmp_path / "file").touch()
    for word, said in {
        "size=30": "the nearest is size=[32, 32]",
        "steps=1001": "steps must lie in 1..1000, found 1001",
        f"model={tmp_path}": "ldm train` with stage=diffusion makes one",
        f"out={tmp_path / 'file'}": "is a file; give the name of a directory",
        "image=nowhere.png": "image=nowhere.png: there is no such file",
        "accelerator=gpu": "torch finds no GPU",
    }.items():
        found = told("sample", *fine, word)
        assert len(found) == 1 and said in found[0], (word, found)
    assert told("sample", *fine, "size=32", "steps=1000") == []
    two = told("sample", *fine, "size=30", "steps=1001")
    assert len(two) == 2


def test_guidance_that_is_not_there_is_remarked_on(world):
    case = Case(compose("sample", ["model=m", "prompt=x", "guidance=1", "negative=blur"]))
    (said,) = remarks("sample", case)
    assert "negative= changes nothing with guidance=1" in said
    assert not remarks("sample", Case(compose("sample", ["model=m", "prompt=x", "guidance=1"])))
    assert not remarks("sample", Case(compose("sample", ["model=m", "prompt=x", "negative=b"])))


def test_caching(world, tmp_path):
    fine = (
        f"autoencoder_run={world.autoencoder}", f"text_run={world.text_encoder}",
        f"data.root={world.shards}", f"out={tmp_path / 'latents'}",
    )  # fmt: skip
    assert told("cache", *fine) == []
    for word, said in {
        "size=30": "choose 28 or 32",
        f"autoencoder_run={world.text_encoder}": "stage=autoencoder makes one",
        f"text_run={world.autoencoder}": "stage=text_encoder makes one",
        "condition=none": "leave one of them out",
        f"data.root={world.latents}": "is a latent cache already",
        f"out={world.shards}": "Give another out=",
        "buckets=true bucket_step=64 size=96": "no multiple of bucket_step=64",
    }.items():
        found = told("cache", *fine, *word.split())
        assert len(found) == 1 and said in found[0], (word, found)
    mirrored = Case(compose("cache", [*fine, "flip=true"]))
    assert "flip=false is sure" in remarks("cache", mirrored)[0]
    assert not remarks("cache", Case(compose("cache", [*fine])))


def test_evaluating(world, tmp_path):
    fine = (
        f"model={world.diffusion}", f"data.root={world.shards}", "metrics=[fd_own]",
        "num_samples=16", f"out={tmp_path / 'metrics.json'}",
    )  # fmt: skip
    assert told("evaluate", *fine) == []
    for word, said in {
        "metrics=[]": "name some, such as metrics=[fd_own]",
        f"out={tmp_path}": "name a file, such as metrics.json in it",
        "checkpoint=7": "has no models/step_000000007",
        f"model={tmp_path / 'nowhere'}": "does not exist",
    }.items():
        assert any(said in text for text in told("evaluate", *fine, word)), word
    (said,) = told("evaluate", "metrics=[fd_own]")
    assert "there is nothing to judge: give model=RUN" in said


def test_how_to_draw_is_refused_where_nothing_is_drawn(tmp_path):
    words = ["metrics=[fd_own]", f"samples={tmp_path}", "reference=x", "steps=20", "sampler=ddim"]
    config = compose("evaluate", words)
    (said,) = wrong("evaluate", Case(config, words=words))
    assert said.startswith("steps=, sampler=: these say how model= makes pictures")
    assert wrong("evaluate", Case(config, words=words[:3])) == []
    drawn = [*words, "model=RUN"]
    assert wrong("evaluate", Case(compose("evaluate", drawn), words=drawn)) == []


def test_exporting(world, tmp_path):
    fine = (f"model={world.diffusion}", f"out={tmp_path / 'export'}")
    assert told("export", *fine) == []
    for word, said in {
        f"model={world.autoencoder}": "stage=diffusion makes one",
        f"metrics_file={tmp_path / 'none.json'}": "`ldm evaluate model=",
        "out=.": "is where you are",
    }.items():
        found = told("export", *fine, word)
        assert any(said in text for text in found), (word, found)
    shutil.copytree(world.diffusion / "model", tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    index.write_text(json.dumps(read_json(index) | {"_class_name": "ldm.TextToImage"}))
    (said,) = told("export", f"model={tmp_path / 'model'}", f"out={tmp_path / 'export'}")
    assert "only condition=text can be exported" in said
    vae = tmp_path / "model" / "vae" / "config.json"
    vae.write_text(json.dumps(read_json(vae) | {"num_vq_embeddings": 8}))
    words = (f"model={tmp_path / 'model'}", f"out={tmp_path / 'export'}", "format=single_file")
    (said,) = told("export", *words)
    assert "with format=diffusers" in said
    assert told("export", *words[:2]) == []


def test_importing(world, tmp_path, monkeypatch):
    fine = (f"from={world.diffusion / 'model'}", f"run={tmp_path / 'run'}")
    assert told("import", *fine) == []
    for word, said in {
        f"from={tmp_path / 'nowhere'}": "fetch the model yourself",
        "weights=ema": "weights= out",
        "prediction=v": "Leave prediction= out",
        "run=.": "is where you are",
    }.items():
        found = told("import", *fine, word)
        assert len(found) == 1 and said in found[0], (word, found)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1}))
    (said,) = told("import", *fine)
    assert "choose another disk" in said


def test_preparing(tmp_path):
    (tmp_path / "pictures").mkdir()
    fine = ("data=folder", f"data.path={tmp_path / 'pictures'}", f"out={tmp_path / 'shards'}")
    assert told("prepare", *fine) == []
    for word, said in {
        f"data.path={tmp_path / 'nowhere'}": "give the folder that holds your pictures",
        f"out={tmp_path / 'pictures'}": "Give another out=",
        "data.encoding=keep": "set data.size_px=null data.square=false data.channels=3",
        "data.encoding=jpeg data.channels=5": "use png",
    }.items():
        found = told("prepare", *fine, *word.split(" "))
        assert len(found) == 1 and said in found[0], (word, found)


def test_a_recipe_tells_which_step_is_mistaken(tmp_path, capsys):
    configs = tmp_path / "configs" / "recipe"
    configs.mkdir(parents=True)
    (configs / "mine.yaml").write_text(
        "# @package _global_\n"
        "out: runs/mine\n"
        "steps:\n"
        "  - {name: first, command: train, arguments: [experiment=demo_diffusion, data.root=L,"
        " run=a, backbone.groups=5]}\n"
        "  - {name: second, command: cache, arguments: [autoencoder_run=a, data.root=S, out=L]}\n"
    )
    words = ["recipe=mine", "--config-dir", str(tmp_path / "configs")]
    for command in (["check", "run"], ["run"]):
        assert main([*command, *words]) == 2
        said = capsys.readouterr().err
        assert "step 1, first: backbone.groups=5 does not divide" in said
        assert "step 2, second: condition=text needs text_run=RUN" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "model=NOWHERE", "prompt=x"],
        ["cache", "autoencoder_run=NOWHERE", "text_run=T", "data.root=S", "out=o"],
        ["evaluate", "model=NOWHERE", "metrics=[fd_own]"],
        ["export", "model=NOWHERE", "out=o"],
        ["import", "from=NOWHERE", "run=r"],
        ["prepare", "data=folder", "data.path=NOWHERE", "out=o"],
        ["train", "experiment=demo_diffusion", "data.root=NOWHERE"],
    ],
)
def test_no_command_begins_without_its_inputs(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert "NOWHERE" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", ["folder", "webdataset", "parquet", "huggingface"])
def test_pictures_that_are_not_there(tmp_path, data):
    pytest.importorskip({"parquet": "pyarrow", "huggingface": "datasets"}.get(data, "torch"))
    words = (f"data={data}", f"out={tmp_path / 'out'}")
    (said,) = told("prepare", *words, f"data.path={tmp_path / 'nowhere'}")
    assert f"data.path={tmp_path / 'nowhere'}" in said
    (tmp_path / "there").mkdir()
    assert told("prepare", *words, f"data.path={tmp_path / 'there'}") == []
