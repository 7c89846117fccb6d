"""Settings as people are told of them."""

import pytest

from ldm.apps.errors import UserError
from ldm.apps.schema.describe import (
    names_of_group,
    settings_of,
    settings_of_choice,
    title_of_choice,
)


def test_a_setting_has_its_words_default_comment_and_line():
    found = {each.key: each for each in settings_of("train", "diffusion")}
    rate = found["drop_rate"]
    assert rate.wanted == "a number from 0 to 1" and float(rate.default) == 0.1 and rate.comment
    assert rate.file.read_text().splitlines()[rate.number - 1].startswith("drop_rate:")
    assert found["data.root"].default == "???" and found["data.root"].wanted == "text"
    assert found["sampler"].default == "dpmpp_2m" and "ddim" in found["sampler"].wanted
    assert "disc_lr" not in found  # of another stage


def test_a_choice_has_the_settings_of_its_constructor_where_they_are_typed():
    found = {each.key: each for each in settings_of_choice("metrics", "fid")}
    assert found["metrics.fid.layer"].wanted == "one of 64, 192, 768, 2048"
    assert "metrics.fid._target_" not in found


def test_a_choice_that_begins_with_another_has_the_settings_of_both():
    found = {each.key: each for each in settings_of_choice("optimizer", "muon_short")}
    assert found["optimizer.iterations"].file.stem == "muon_short"
    assert found["optimizer.lr"].file.stem == "muon"


def test_groups_have_names_and_their_files_a_title():
    assert {"ddim", "euler"} <= {*names_of_group("sampler")}
    assert title_of_choice("metrics", "fid").startswith("Frechet Inception distance")
    with pytest.raises(UserError, match="no such configuration"):
        settings_of_choice("sampler", "nonesuch")
