"""What stays in float32 when a network computes in bfloat16."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from ldm.backbones.unet import UNet
from ldm.losses.denoising import denoising_loss
from ldm.nn.blocks import recompute_activations
from ldm.tasks.trained import Trained
from tests.nn.test_blocks import unet


def test_weights_moments_average_and_loss_are_float32_under_bf16_mixed():
    torch.manual_seed(0)
    network, run = unet()
    assert isinstance(network, UNet)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    recompute_activations(network)  # computes again in the precision of the first time
    trained = Trained(
        network,
        make_optimizer=partial(torch.optim.AdamW, lr=1.0, fused=True),
        learning_rate=lambda step: 1e-6,  # below bfloat16's resolution of a weight
        max_gradient_norm=1.0,
        ema_decay=0.9,
    )
    before = network.conv_in.weight.detach().clone()
    with torch.autocast("cpu", torch.bfloat16):
        output = run(network)
        loss = denoising_loss(output, torch.zeros_like(output)).mean()
    assert output.dtype == torch.bfloat16 and loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())
    trained.step(0)
    held = [*network.parameters(), *trained.ema.shadow.values()]
    held += [v for state in trained.optimizer.state.values() for v in state.values()]
    assert {value.dtype for value in held} == {torch.float32}
    moved = (network.conv_in.weight.detach() - before).abs()
    assert float(moved.max()) > 0.0 and not torch.equal(before, before.bfloat16().float())
    assert float(moved.max()) < 2e-6  # a step that weights of 16 bits would lose


def test_normalisation_takes_its_statistics_in_float32():
    """CPUs normalise in the dtype of the input, with sums in float32; CUDA's autocast in float32.

    Values 64 + small: bfloat16 sums of a thousand of them would be off by more than their spread.
    """
    torch.manual_seed(0)
    x = (64.0 + torch.randn(2, 8, 16, 16)).bfloat16()
    group, layer = nn.GroupNorm(2, 8), nn.LayerNorm(16)
    with torch.autocast("cpu", torch.bfloat16):
        found = group(x), layer(x)
    expected = (
        F.group_norm(x.float(), 2, group.weight, group.bias, group.eps),
        F.layer_norm(x.float(), (16,), layer.weight, layer.bias, layer.eps),
    )
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one.float(), two, rtol=2**-7, atol=2**-7)
