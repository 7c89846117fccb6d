"""Help: from the commented files, short, and with more on one thing where that is asked for."""

import subprocess
import sys

import pytest

from ldm.apps.compose import config_root
from ldm.apps.errors import UserError
from ldm.apps.help import GROUPS, command_help, detailed_help
from ldm.apps.help_files import first_sentence, read
from ldm.apps.main import COMMANDS, EXAMPLES, main
from ldm.apps.settings import PARTS, SETTINGS


def test_settings_are_read_with_comments_sections_and_nesting(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "# @package _global_\n# What it is. More of it.\n# `ldm x a=1`\n"
        "defaults:\n  - _self_\n  - sampler: ddim  # how\n  - override /stage: diffusion\n"
        "# One section\na: ???  # needed\nb: [1, 2]   # a list,\n    # which goes on\n"
        "# Another\nc:\n  d: 1.0e-3  # deep\n  e: {f: g}\nh: 2\n"
    )
    file = read(tmp_path / "x.yaml")
    assert file.header == "What it is. More of it.\n`ldm x a=1`"
    assert first_sentence(tmp_path / "x.yaml") == "What it is"
    assert [(s.key, s.value, s.comment, s.section, s.is_group) for s in file.settings] == [
        ("sampler", "ddim", "how", "", True),
        ("stage", "diffusion", "", "", True),
        ("a", "???", "needed", "One section", False),
        ("b", "[1, 2]", "a list, which goes on", "One section", False),
        ("c.d", "1.0e-3", "deep", "Another", False),
        ("c.e", "{f: g}", "", "Another", False),
        ("h", "2", "", "Another", False),
    ]


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"doctor"}))
def test_every_command_has_purpose_usage_examples_and_all_its_settings(command):
    said = command_help(command, COMMANDS[command], EXAMPLES[command])
    assert said.startswith(f"ldm {command}: {COMMANDS[command]}\n\nusage: ldm {command}")
    assert all(f"  ldm {command} {example}".rstrip() in said for example in EXAMPLES[command])
    file = config_root() / f"{command}.yaml"
    for setting in read(file).settings if file.is_file() else []:
        assert setting.is_group or f"  {setting.key}=" in said
    assert max(map(len, said.splitlines())) <= 115 and len(said.splitlines()) < 130


@pytest.mark.parametrize("command", ["train", "cache", "sample", "export"])
def test_the_files_name_every_setting_that_the_command_has(command):
    """Settings of stages aside, which stand in the stages' files."""
    files = [config_root() / f"{command}.yaml"]
    files += sorted((config_root() / "stage").glob("*.yaml")) if command == "train" else []
    files += sorted((config_root() / "trainer").glob("*.yaml")) if command == "train" else []
    keys = {s.key.partition(".")[0] for file in files for s in read(file).settings}
    assert set(SETTINGS[command]) <= keys | {"logger", "metrics"}
    for (of, part), names in PARTS.items():
        if of == command and part == "data":
            told = {s.key for file in files for s in read(file).settings}
            assert {f"{part}.{name}" for name in names} <= told


def test_groups_are_described_and_their_choices_too(capsys):
    shipped = {path.name for path in config_root().iterdir() if path.is_dir()}
    assert set(GROUPS) == shipped - {"preparing", "sweep"}
    assert main(["train", "--help", "optimizer"]) == 0
    said = capsys.readouterr().out
    assert "optimizer=NAME: how gradients become steps" in said
    assert "  adamw" in said and "AdamW (Loshchilov and Hutter 2019)" in said


@pytest.mark.parametrize(
    "command, name, said",
    [
        ("train", "optimizer=adamw", "  optimizer.betas=[0.9, 0.99]"),
        ("train", "backbone=unet_demo", "which levels attend to the caption"),
        ("train", "stage=diffusion", "  preview.steps=20"),
        ("train", "experiment=sd1_256", "Hardware: 4 x 8 GPUs of 80 GB"),
        ("train", "lr", "it must be a number above 0"),
        ("train", "data.workers", "loader processes per device"),
        ("check", "stage=autoencoder", "loss.disc_start=50001"),
        ("prepare", "data=folder", "data.captions=auto"),
        ("evaluate", "metrics", "Frechet Inception distance"),
        ("run", "recipe", "folder"),
    ],
)
def test_more_on_one_thing(command, name, said, capsys):
    assert main([command, "--help", name]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, said",
    [("optimzer", "'optimizer'"), ("optimizer=adam", "'adamw'"), ("learning", "learning_rate")],
)
def test_what_is_not_there_is_answered_with_a_suggestion(name, said, capsys):
    with pytest.raises(UserError, match=said):
        detailed_help("train", name)
    assert main(["train", "--help", name]) == 2


def test_a_users_own_choices_are_listed(tmp_path, capsys):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# My own. Really.\nsize: 64  # px\n")
    words = ["train", "--help", "experiment", "--config-dir", str(tmp_path)]
    assert main(words) == 0
    assert "  mine" in capsys.readouterr().out


def test_a_reader_who_has_seen_enough_is_no_failure():
    command = f"{sys.executable} -m ldm.apps.main train --help | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.endswith("\n0\n") and not done.stderr
