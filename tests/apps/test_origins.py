"""Every value comes from a line of a file, or from a word."""

import pytest

from ldm.apps.config_files import config_root, config_roots
from ldm.apps.origins import origins_of

WORDS = ["experiment=demo_diffusion", "data.root=D", "backbone=unet_demo", "preview.steps=7"]


@pytest.fixture(scope="module")
def origins():
    return origins_of("train", WORDS, config_roots(None))


def line_of(origin) -> str:
    return origin.file.read_text().splitlines()[origin.number - 1].strip()


def test_a_value_comes_from_the_file_that_said_it_last(origins):
    lr = origins.of("lr")
    assert lr.file == config_root() / "experiment" / "demo_diffusion.yaml"
    assert line_of(lr).startswith(f"lr: {lr.text}")
    assert origins.of("seed").file == config_root() / "train.yaml"
    assert line_of(origins.of("backbone.heads")) == "heads: [2, 2]"
    assert line_of(origins.of("optimizer.iterations")).startswith("iterations: 3")


def test_a_typed_value_comes_from_its_word(origins):
    assert str(origins.of("preview.steps")) == "preview.steps=7"
    assert origins.file_of("preview.steps") == ""
    assert origins.of("preview.num").file == config_root() / "stage" / "diffusion.yaml"


def test_an_entry_or_an_unknown_key_has_the_origin_of_what_is_around_it(origins):
    assert line_of(origins.of("backbone.heads.1")) == "heads: [2, 2]"
    assert origins.of("nonesuch") is None and origins.file_of("nonesuch") == ""


def test_the_choice_of_a_group_has_an_origin_too(origins):
    assert origins.choice("backbone") == ("unet_demo", origins.choice("backbone")[1])
    assert origins.choice("backbone")[1].file is None
    name, origin = origins.choice("optimizer")
    assert name == "muon_short" and line_of(origin) == "- override /optimizer: muon_short"


def test_a_table_that_is_typed_leaves_other_entries_where_they_were():
    words = ["experiment=demo_diffusion", "data.root=D", "preview={steps: 3}"]
    found = origins_of("train", words, config_roots(None))
    assert found.of("preview.steps").file is None
    assert found.of("preview.num").file is not None
