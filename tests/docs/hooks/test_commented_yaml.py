"""Configurations with their comments: every setting of the shipped ones is found and said."""

from pathlib import Path

import pytest
import yaml

from docs.hooks.commented_yaml import commented

CONFIGS = Path(__file__).parents[3] / "configs"


def test_keys_values_and_comments() -> None:
    found = commented(
        "# @package _global_\n# What it is.\ndefaults:\n  - trainer: cpu   # where\n  - _self_\n"
        "run: ???    # a directory\nloss:\n  kl: 1.0e-6    # per nat;\n                # tiny\n"
        '  name: "a # b"\n'
    )
    assert found.head == ["What it is."]
    assert [tuple(line) for line in found.groups] == [("trainer", "cpu", "where")]
    assert [tuple(line) for line in found.settings] == [
        ("run", "???", "a directory"),
        ("loss", "", ""),
        ("loss.kl", "1.0e-6", "per nat; tiny"),
        ("loss.name", '"a # b"', ""),
    ]


@pytest.mark.parametrize(
    "name", ["train", "sample", "evaluate", "cache", "prepare", "stage/diffusion"]
)
def test_every_setting_of_a_command_is_documented(name: str) -> None:
    text = (CONFIGS / f"{name}.yaml").read_text()
    found = commented(text).settings
    keys = set(yaml.safe_load(text)) - {"defaults"}
    assert {line.key for line in found if "." not in line.key} == keys
