"""Help: from the commented files, short, and with more on one thing where that is asked for."""

import subprocess
import sys

import pytest

from ldm.apps.config_files import config_root
from ldm.apps.errors import UserError
from ldm.apps.help import GROUPS, command_help, detailed_help
from ldm.apps.help_files import first_sentence, header, headings
from ldm.apps.main import COMMANDS, EXAMPLES, main
from ldm.apps.schema.commands import COMMANDS as DESCRIBED
from ldm.apps.schema.describe import settings_of


def test_headers_and_headings_of_a_file(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "# @package _global_\n# What it is (Ho et al. 2020). More of it.\n# `ldm x a=1`\n"
        "defaults:\n  - _self_\n# One section\na: 1  # one\nb: 2\n# Another\nc: 3\n"
    )
    assert header(file) == "What it is (Ho et al. 2020). More of it.\n`ldm x a=1`"
    assert first_sentence(file) == "What it is (Ho et al. 2020)"
    found = headings(file)
    assert [found[n] for n in (5, 7, 8, 10)] == ["", "One section", "One section", "Another"]


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"doctor"}))
def test_every_command_has_purpose_usage_examples_and_all_its_settings(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    said = command_help(command, COMMANDS[command], EXAMPLES[command])
    assert said.startswith(f"ldm {command}: {COMMANDS[command]}\n\nusage: ldm {command}")
    assert all(f"  ldm {command} {example}".rstrip() in said for example in EXAMPLES[command])
    for setting in settings_of(command) if command in DESCRIBED else []:
        assert f"  {setting.key}=" in said or f"  {setting.key} " in said
    assert max(map(len, said.splitlines())) <= 115 and len(said.splitlines()) < 140


def test_groups_are_described_and_their_choices_too(capsys):
    shipped = {path.name for path in config_root().iterdir() if path.is_dir()}
    assert set(GROUPS) == shipped - {"preparing"}
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
