"""`ldm config`: the tree is YAML, and every line says where its value comes from."""

import yaml

from ldm.apps.compose import compose
from ldm.apps.config_files import config_root
from ldm.apps.main import main

MINE = """# @package _global_
defaults:
  - demo_diffusion
  - override /optimizer: adamw
max_steps: 7
optimizer:
  eps: 1.0e-6
"""


def shown(capsys, *words):
    assert main(["config", *words]) == 0
    return capsys.readouterr().out


def line_of(text, key):
    return next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))


def test_each_line_says_where_its_value_comes_from(capsys, tmp_path):
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(MINE)
    words = ["experiment=mine", "--config-dir", str(tmp_path), "lr=0.5", "sampler=ddim"]
    text = shown(capsys, *words)
    assert line_of(text, "max_steps").endswith(f"# {file}:5")
    assert line_of(text, "  eps".strip()).endswith(f"# {file}:7")
    assert line_of(text, "optimizer").endswith(f"# adamw, {file}:4")
    assert line_of(text, "lr").endswith("# lr=0.5")
    assert line_of(text, "sampler").endswith("# sampler=ddim")
    assert "betas: [0.9, 0.99]" in text and "optimizer/adamw.yaml:5" in line_of(text, "betas")
    assert line_of(text, "root").split("#")[0].strip() == "root: ???"
    peak = line_of(text, "peak")
    assert "peak: 0.5" in peak and peak.endswith("learning_rate/cosine.yaml:4  ${lr}")


def test_without_its_comments_it_is_the_configuration(capsys):
    words = ["experiment=demo_autoencoder", "data.root=D", "regularizer=vq"]
    text = shown(capsys, *words)
    assert yaml.safe_load(text) == compose("train", words)
    source = f"{config_root() / 'regularizer' / 'vq.yaml'}"
    assert f"{source.rpartition('configs/')[2]}:4" in line_of(text, "num_codes")


def test_parts_are_shown_alone(capsys):
    text = shown(capsys, "experiment=demo_diffusion", "preview.steps", "lr")
    assert [line.partition(":")[0] for line in text.splitlines()] == ["lr", "preview", "  steps"]
    assert main(["config", "experiment=demo_diffusion", "optimzer"]) == 2
    assert "Did you mean 'optimizer'" in capsys.readouterr().err


def test_other_commands_and_literal_words(capsys):
    text = shown(capsys, "sample", "model=m", "prompt=a ${b}, c")
    assert line_of(text, "prompt").startswith("prompt: a ${b}, c ")
    text = shown(capsys, "run", "recipe=demo", "out=ELSE", "steps")
    assert "- name: prepare" in text and "out=ELSE/shards" in text
    assert "recipe/demo.yaml:9" in line_of(text, "- name")


def test_mistakes_are_told_as_anywhere(capsys):
    assert main(["config", "experiment=demo_diffusion", "lr=fast"]) == 2
    assert "a number above 0" in capsys.readouterr().err
