"""Weights of 16 bits: the same parameters, norms untouched, and autocast computes with them."""

import torch
from torch import nn

from ldm.nn.half import halve_weights
from tests.nn.test_blocks import learn, unet


def test_all_but_norms_become_short_and_still_learn():
    network, run = unet()
    before = list(network.parameters())
    halve_weights(network, torch.bfloat16)
    assert [id(p) for p in before] == [id(p) for p in network.parameters()]  # an optimizer's too
    for name, module in network.named_modules():
        wanted = (
            torch.float32 if isinstance(module, nn.GroupNorm | nn.LayerNorm) else torch.bfloat16
        )
        assert all(p.dtype == wanted for p in module.parameters(recurse=False)), name
    with torch.autocast("cpu", torch.bfloat16):
        values, _ = learn(network, run)
    assert all(bool(value.isfinite().all()) for value in values)
