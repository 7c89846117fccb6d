"""Which settings may be others when a run goes on."""

import copy

import pytest
from omegaconf import OmegaConf

from ldm.apps.compose import compose
from ldm.apps.differences import FORBIDDEN, FREE, WARNED, differences

EXPERIMENTS = ("demo_text_encoder", "demo_autoencoder", "demo_diffusion")
BASE = {
    "run": "runs/a", "resume": "auto", "lr": 1e-3, "seed": 0, "ema_decay": 0.9, "log_every": 20,
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "betas": [0.9, 0.99]},
    "backbone": {"channels": [16, 32]}, "data": {"root": "a", "workers": 0},
    "loss": {"gan": 0.5}, "discriminator": None, "global_batch": 8,
}  # fmt: skip


def changed(**more):
    now = copy.deepcopy(BASE)
    for path, value in more.items():
        node = now
        *parents, name = path.split("__")
        for parent in parents:
            node = node[parent]
        node[name] = value
    return {d.key: d.kind for d in differences(BASE, now)}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (FREE, {"log_every": 7}), (FREE, {"data__workers": 2}), (FREE, {"data__root": "elsewhere"}),
        (WARNED, {"lr": 2e-3}), (WARNED, {"loss__gan": 0.1}), (WARNED, {"ema_decay": None}),
        (WARNED, {"global_batch": 16}),
        (FORBIDDEN, {"seed": 1}), (FORBIDDEN, {"backbone__channels": [16, 48]}),
        (FORBIDDEN, {"optimizer__betas": [0.5, 0.9]}), (FORBIDDEN, {"never_heard_of": 1}),
        (FORBIDDEN, {"optimizer___target_": "torch.optim.SGD"}),
    ],
)  # fmt: skip
def test_a_difference_has_a_class(kind, change):
    assert list(changed(**change).values()) == [kind]


def test_the_same_settings_do_not_differ_wherever_the_run_lies():
    assert changed() == {} == changed(run="runs/b", resume="never")


def test_what_a_part_repeats_is_told_once():
    assert changed(lr=2e-3, optimizer__lr=2e-3) == {"lr": WARNED}
    assert changed(optimizer__lr=2e-3) == {"optimizer.lr": FORBIDDEN}  # by itself: not repeated


def test_an_average_cannot_begin_in_the_middle():
    before = BASE | {"ema_decay": None}
    (found,) = differences(before, BASE)
    assert found.kind == FORBIDDEN and "no average" in found.why


def test_parts_that_come_and_go_are_forbidden():
    kinds = changed(discriminator={"_target_": "x", "width": 8})
    assert len(kinds) == 2 and set(kinds.values()) == {FORBIDDEN}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_setting_of_the_stages_has_a_class_of_its_own(experiment):
    """None is left to the rule for what nobody has thought of."""
    config = compose("train", [f"experiment={experiment}", "data.root=x"])
    found = differences({}, OmegaConf.to_container(config, resolve=True))
    assert len(found) > 40
    assert not [d.key for d in found if "nothing is known" in d.why]
