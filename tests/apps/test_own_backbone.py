"""A backbone is one file of Python and one of YAML: no command asks for the settings of another."""

import sys

import pytest

import ldm.backbones
from ldm.apps.check import check
from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.plan import plan
from ldm.apps.planning import in_training
from ldm.apps.planning.companions import Companions
from ldm.apps.planning.estimate import footprint
from ldm.manifest import read_json
from tests.apps import toy_backbone

TOY = "_target_: ldm.backbones.toy.Toy\nin_channels: 4\nout_channels: 4\n"


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Those that train it, and the folder of its configuration."""
    monkeypatch.setitem(sys.modules, "ldm.backbones.toy", toy_backbone)
    monkeypatch.setattr(toy_backbone.Toy, "__module__", "ldm.backbones.toy")
    monkeypatch.setattr(ldm.backbones, "toy", toy_backbone, raising=False)
    (tmp_path / "backbone").mkdir()
    for name in ("false", "true"):
        text = f"{TOY}asks_for_numbers: {name}\n"
        (tmp_path / "backbone" / f"toy_{name}.yaml").write_text(text)
    return ["experiment=demo_diffusion", "backbone=toy_false"], str(tmp_path)


def test_it_is_checked_and_planned(words, tmp_path, capsys):
    given, config_dir = words
    assert check("train", given, config_dir=config_dir) == 0
    said = capsys.readouterr().out
    assert "Toy of 20 parameters" in said and "each device holds" in said
    assert "before it can run: ldm.backbones.toy.Toy can be planned" in said
    out = tmp_path / "plan.json"
    assert plan([*given, f"out={out}", "gpu=h100"], config_dir=config_dir) == 0
    found = read_json(out)
    assert found["parameters"]["trained"] == 20
    assert found["forward_flops_per_image"] == 2 * 4 * 4 * 8 * 8


def test_its_settings_are_its_own(words, capsys):
    """channels= may be a number, and its forward another: sentences, if anything."""
    given, config_dir = words
    assert check("train", [*given, "+backbone.channels=64"], config_dir=config_dir) == 0


def test_a_forward_that_does_not_take_or_give_what_it_should(words, monkeypatch):
    given, config_dir = words
    for forward, said in (
        (lambda self, x, t: x, "TypeError: .*positional arguments"),
        (lambda self, x, t, condition: (x, t), "AttributeError: 'tuple'"),
    ):
        monkeypatch.setattr(toy_backbone.Toy, "forward", forward)
        monkeypatch.setattr("ldm.apps.rules.trial._TRIED", {})
        with pytest.raises(UserError, match=f"backbone cannot be computed.*{said}"):
            check("train", given, config_dir=config_dir)


def test_what_needs_numbers_has_no_estimate_and_may_train(words, capsys, monkeypatch):
    (experiment, _), config_dir = words
    asked = [experiment, "backbone=toy_true", "data.root=DATA"]
    config = compose("train", asked, config_dir=config_dir)
    assert footprint(config, None) is None
    latents = Companions(latents={(8, 8): 1})
    monkeypatch.setattr(in_training, "Companions", lambda: latents)
    assert in_training.flops_per_image(config) is None
    assert "its operations cannot be counted" in capsys.readouterr().out
    with pytest.raises(UserError, match="cannot be planned.*no numbers.*It may train all the same"):
        plan(asked[:2], config_dir=config_dir)
