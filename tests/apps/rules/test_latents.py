"""A latent cache against the settings that are to train on it, before anything is loaded."""

import shutil

import pytest

from ldm.apps.compose import compose
from ldm.apps.rules import files, latents
from ldm.apps.rules.case import Case
from ldm.apps.rules.table import lacking


def case(world, *words, root=None):
    settings = world.settings["diffusion"]
    return Case(compose("train", [*settings, f"data.root={root or world.latents}", *words]))


BREAKS = {  # words -> those that mend them, which the sentence gives
    "backbone.in_channels=3 backbone.out_channels=3":
        "backbone.in_channels=4 backbone.out_channels=4",
    "backbone.context_dim=32": "backbone.context_dim=16",
    "backbone.vector_dim=8 backbone.pooling_heads=null": "backbone.vector_dim=null",
    "size=64": "size=32",
    "backbone.channels=[8,8,8,8,8] backbone.heads=[1,1,1,1,1] "
    "backbone.attention=[false,true,true,true,true] backbone.transformer_depth=[1,1,1,1,1]":
        "backbone.channels",
}  # fmt: skip


@pytest.mark.parametrize("words", BREAKS)
def test_what_does_not_fit_the_cache(world, words):
    assert list(latents.fit(case(world))) == []
    (said,) = latents.fit(case(world, *words.split()))
    assert (BREAKS[words] in said and str(world.latents) in said) or "halved to the depth" in said
    if "=" in BREAKS[words]:
        assert list(latents.fit(case(world, *words.split(), *BREAKS[words].split()))) == []


def test_all_that_does_not_fit_is_told_together(world):
    mistaken = case(world, "size=64", "backbone.context_dim=32")
    said = list(lacking("train", mistaken, looking=False))
    assert any("size=32" in text for text in said) and any("context_dim=16" in t for t in said)


def test_an_autoencoder_that_is_another_now(world, tmp_path):
    latents.made_with(case(world))
    shutil.copytree(world.root, tmp_path / "copy")
    root = tmp_path / "copy" / "latents"
    config = tmp_path / "copy" / "autoencoder" / "model" / "vae" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(ValueError, match=r"made with another autoencoder .*ldm cache out="):
        latents.made_with(case(world, root=root))
    changed = case(world, root=root)
    assert any("another autoencoder" in text for text in lacking("train", changed, looking=True))


def test_pictures_where_latents_are_needed_and_the_other_way(world):
    (said,) = files.kind_of_data(case(world, root=world.shards))
    assert f"ldm cache autoencoder_run=RUN text_run=RUN data.root={world.shards}" in said
    words = [*world.settings["autoencoder"], f"data.root={world.latents}"]
    (said,) = files.kind_of_data(Case(compose("train", words)))
    assert str(world.shards) in said
    assert list(files.kind_of_data(case(world))) == []


@pytest.mark.parametrize("change", ["context_dim=null", "context_dim=16"])
def test_classes_need_a_width_of_their_tokens(world, change, monkeypatch):
    asked = case(world, f"backbone.{change}", "backbone.pooling_heads=null")
    assert asked.latents is not None
    asked.latents.settings["condition"] = "classes"
    said = list(latents.classes_have_a_width(asked))
    assert [("such as 512" in text) for text in said] == [True] * (change == "context_dim=null")
