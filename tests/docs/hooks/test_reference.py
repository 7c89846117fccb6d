"""The reference has a page for every command and group, and a row for every setting."""

import re

import pytest
import yaml

from docs.hooks.reference import CONFIGS, groups, pages
from ldm.apps.main import COMMANDS

PAGES = dict(pages())


def test_every_command_and_group_has_a_page() -> None:
    assert {f"commands/{name}.md" for name in COMMANDS} <= PAGES.keys()
    assert {f"groups/{name}.md" for name in groups()} <= PAGES.keys()
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} - set(groups()) == {
        "experiment", "recipe", "stage", "preparing",
    }  # fmt: skip


def test_a_setting_says_its_value_its_meaning_and_what_it_may_be() -> None:
    (row,) = [r for r in PAGES["commands/train.md"].splitlines() if r.startswith("| `lr` ")]
    assert "*to be given*" in row and "peak learning rate" in row and "a number above 0" in row


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "cache", "export", "import"])
def test_every_setting_of_a_command_has_a_row(command: str) -> None:
    keys = set(yaml.safe_load((CONFIGS / f"{command}.yaml").read_text())) - {"defaults"}
    rows = re.findall(r"^\| \[?`([\w.]+)`", PAGES[f"commands/{command}.md"], re.M)
    assert keys <= {row.partition(".")[0] for row in rows}


def test_settings_of_a_stage_stand_under_it_alone() -> None:
    whole, _, stage = PAGES["commands/train.md"].partition("## stage=diffusion")
    assert "| `drop_rate` |" in stage and "| `drop_rate` |" not in whole
    assert "| `lr` |" in whole and "| `lr` |" not in stage


def test_links_are_links_and_text_is_text() -> None:
    assert "| [`ldm train`](commands/train.md) | one stage: text&#95;encoder," in PAGES["index.md"]
    assert all("\\[" not in page for page in PAGES.values())


def test_every_experiment_and_choice_is_shown() -> None:
    for path in (CONFIGS / "experiment").glob("*.yaml"):
        assert f"## {path.stem}\n" in PAGES["experiments.md"]
    for path in (CONFIGS / "sampler").glob("*.yaml"):
        assert f"## {path.stem}\n" in PAGES["groups/sampler.md"]


def test_exit_codes_are_those_of_the_program() -> None:
    assert "| 75 | `STOPPED` |" in PAGES["exit-codes.md"]
