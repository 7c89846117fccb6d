"""Compiled in place: the same names, the same numbers, a cheap last layer."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from ldm.nn.blocks import recompute_activations
from ldm.tasks.compiling import compile_in_place
from tests.nn.test_blocks import autoencoder, learn, unet


@pytest.fixture(autouse=True)
def forget():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compare(make, *, recompute: bool, backend) -> None:
    torch.manual_seed(0)
    network, run = make()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    compiled = copy.deepcopy(network)
    if recompute:
        recompute_activations(compiled)
    compile_in_place(compiled, backend=backend, fullgraph=True)
    assert list(compiled.state_dict()) == list(network.state_dict())
    (plain, _), (again, _) = learn(network, run), learn(compiled, run)
    for one, two in zip(plain, again, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [unet, pytest.param(autoencoder, marks=pytest.mark.slow)])
def test_compiled_networks_compute_the_same_under_the_same_names(make):
    counter = CompileCounterWithBackend("aot_eager")
    compare(make, recompute=False, backend=counter)
    assert counter.frame_count > 0  # it was compiled at all


@pytest.mark.slow
@pytest.mark.parametrize("make, recompute", [(unet, True), (autoencoder, False)])
def test_with_the_real_backend(make, recompute):
    compare(make, recompute=recompute, backend="inductor")
