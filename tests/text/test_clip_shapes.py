"""Towers in shape alone: open_clip's parameters by name, and picture and caption go through."""

import pytest
import torch
from omegaconf import OmegaConf

from ldm.apps.config_files import config_root
from ldm.text.clip import ClipTowers
from ldm.text.clip_shapes import ClipShapes, describes

SHIPPED = sorted(path.stem for path in (config_root() / "text_encoder").glob("*clip*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_parameters_are_open_clips(name):
    settings = OmegaConf.load(config_root() / "text_encoder" / f"{name}.yaml")
    settings.size = 64  # where the pictures' size is the run's
    found = OmegaConf.to_container(settings, resolve=True)
    parts = {key: found[key] for key in ("embed_dim", "vision", "text")}
    assert describes(parts["vision"], parts["text"])
    with torch.device("meta"):
        theirs = ClipTowers(**parts, quick_gelu=False, states="last")
        ours = ClipShapes(**parts)
        side, length = parts["vision"]["image_size"], parts["text"]["context_length"]
        given = torch.zeros(2, 3, side, side), torch.zeros(2, length, dtype=torch.int64)
        for made, expected in zip(ours(*given), theirs(*given), strict=True):
            assert made.shape == expected.shape
    shapes = {n: tuple(p.shape) for n, p in theirs.named_parameters()}
    assert {n: tuple(p.shape) for n, p in ours.named_parameters()} == shapes


def test_towers_of_other_settings_are_not_described():
    assert describes({"layers": 2}, {"heads": 2})
    assert not describes({"layers": 2, "attentional_pool": True}, {})
    assert not describes({}, {"hf_model_name": "roberta"})
