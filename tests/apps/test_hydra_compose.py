"""Hydra's complaints in the user's words."""

import subprocess
import sys

from omegaconf import OmegaConf

from ldm.apps.hydra_compose import keys_in

WITHOUT_TORCH = """
import sys
from ldm.apps.compose import compose
from ldm.apps.errors import UserError
for word in ("max_step=1", "backbone.hads=4", "optimizer.lrr=1", "preview.step=1", "lr=fast"):
    try:
        compose("train", ["experiment=demo_diffusion", "data.root=D", word])
    except UserError as error:
        assert "torch" not in sys.modules, word
        print(error)
"""


def test_a_mistake_in_a_typed_word_is_told_before_torch_is_imported():
    words = [sys.executable, "-c", WITHOUT_TORCH]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    said = run.stdout.splitlines()
    meant = ("'max_steps'", "'backbone.heads'", "'optimizer.lr'", "'preview.steps'", "a number")
    assert [word in line for word, line in zip(meant, said, strict=True)] == [True] * 5


def test_keys_are_of_groups_and_settings_and_of_no_entries_of_lists():
    config = OmegaConf.create({"a": {"b": 1, "c": {"d": "???"}}, "e": [{"f": 1}], "g": None})
    assert [*keys_in(config)] == ["a", "a.b", "a.c", "a.c.d", "e", "g"]
