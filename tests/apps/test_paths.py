"""Paths count from where a command was begun, and are found again from elsewhere."""

import os
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ldm.apps.compose import compose
from ldm.apps.paths import PATHS, absolute, from_root
from ldm.apps.schema.commands import COMMANDS, fields_of, settings_of_command

NO_PATHS = {"preview.prompts", "evaluation.num_samples", "num_samples"}


def test_every_setting_that_is_a_path_is_known_as_one():
    """By its name, in every command but `run`, whose recipes have settings of their own."""
    words = ("run", "root", "dir", "out", "from", "model", "samples", "reference", "prompts")
    words += ("image", "mask", "init", "notes", "file", "shards", "path")
    for command in COMMANDS.keys() - {"run"}:
        names = []
        for name, annotation in settings_of_command(command).items():
            names.append(name)
            if isinstance(annotation, type) and is_dataclass(annotation):
                names += [f"{name}.{below}" for below in fields_of(annotation)]
        assert ("data.root" in names) == (command in ("train", "cache", "evaluate"))
        for name in names:
            last = name.rpartition(".")[2].rpartition("_")[2]
            if last in words and name not in NO_PATHS:
                assert name in PATHS.get(command, ()), (command, name)
    assert PATHS.keys() <= COMMANDS.keys()


@pytest.mark.parametrize(
    ("command", "words", "key"),
    [
        ("train", ["experiment=demo_diffusion", "data.root=~/latents"], "data.root"),
        ("train", ["experiment=demo_diffusion", "data.root=x", "run=~/a/b"], "run"),
        ("cache", ["autoencoder_run=~/a", "data.root=x", "out=y"], "autoencoder_run"),
        ("prepare", ["data=folder", "data.path=~/pictures", "out=y"], "data.path"),
        ("run", ["recipe=folder", "data.path=~/pictures"], "data.path"),
        ("evaluate", ["samples=~/s", "metrics=fid"], "samples"),
        ("sample", ["model=~/m", "prompt=x"], "model"),
        ("sample", ["model=m", "prompt=x", "image=~/i.png"], "image"),
        ("logs", ["run=~/r"], "run"),
        ("plan", ["out=~/p.json"], "out"),
    ],
)
def test_home_is_a_home_for_every_command(command, words, key, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    found = OmegaConf.select(compose(command, words), key)
    assert found.startswith("/home/somebody/"), found


def test_what_a_recipe_passes_on_is_at_home_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    config = compose("run", ["recipe=demo", "out=~/demo"])
    assert "out=/home/somebody/demo/shards" in config.steps[0].arguments


def test_a_list_of_runs_and_a_url(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    words = ["autoencoder_run=a", "data.root=s3://b/~c", "out=o", "text_run=['~/a',b]"]
    config = compose("cache", words)
    assert list(config.text_run) == ["/h/a", "b"] and config.data.root == "s3://b/~c"
    assert absolute("s3://b/c", Path("/x")) == "s3://b/c" and absolute("../c", Path("/x")) == "/c"


def test_a_kept_configuration_says_paths_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=demo_autoencoder", "data.root=shards", "text_run=../text"]
    config = compose("train", [*words, "run=runs/a", "weights_dir=w"])
    kept = from_root(config)
    assert kept.run == str(tmp_path / "runs/a")
    assert kept.data.root == str(tmp_path / "shards")
    assert kept.text_run == os.path.normpath(tmp_path / "../text")
    assert kept.weights_dir == str(tmp_path / "w") and kept.init is None
    assert config.run == "runs/a"  # what is printed stays as it was typed
    monkeypatch.chdir("/")
    assert from_root(kept) == kept
