"""Weights shared out among real processes: the numbers, files and pictures of one process."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves

from ldm.nn.blocks import recompute_activations
from ldm.tasks.trained import Trained
from ldm.types import Condition
from tests.nn.test_blocks import unet

GLOBAL_BATCH = 8


def make() -> Trained:
    torch.manual_seed(0)
    network = unet()[0].double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return Trained(
        network,
        make_optimizer=partial(torch.optim.AdamW, lr=1.0, fused=True),
        learning_rate=lambda step: 1e-2 / (step + 1),
        max_gradient_norm=0.1,
        ema_decay=0.9,
    )


def batch(step: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(step)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    x, tokens, wanted = (draw(GLOBAL_BATCH, *shape) for shape in ((4, 8, 8), (5, 12), (4, 8, 8)))
    return x, torch.linspace(0.0, 999.0, GLOBAL_BATCH, dtype=torch.float64), tokens, wanted


def predict(network: nn.Module, x, t, tokens) -> torch.Tensor:
    return network(x, t, Condition(tokens=tokens))


def learn(trained: Trained, steps: range, rank: int, world_size: int) -> list[torch.Tensor]:
    """Optimizer steps on this rank's samples, two micro-batches each; the gradients' norms."""
    norms = []
    for step in steps:
        mine = [part.chunk(world_size)[rank].chunk(2) for part in batch(step)]
        for i, (x, t, tokens, wanted) in enumerate(zip(*mine, strict=True)):
            if trained.sharded:
                trained.network.set_requires_gradient_sync(i == 1)
            (predict(trained.network, x, t, tokens) - wanted).square().mean().div(2).backward()
        norms.append(trained.step(step))
    return norms


def live(rank: int, shape: tuple[int, ...], folder: Path, change: str) -> None:
    """The life of a rank: takes up what one process began, learns, and says what it is now."""
    torch.set_num_threads(1)
    world_size = torch.Size(shape).numel()
    meet = f"file://{folder}/meet"
    dist.init_process_group(
        "gloo", init_method=meet, rank=rank, world_size=world_size, timeout=timedelta(seconds=60)
    )
    trained = make()
    trained.load_state_dict(torch.load(folder / "begun.pt", weights_only=True, mmap=True))
    if change == "recomputed":
        recompute_activations(trained.network)
    names = ("replicate", "shard")[-len(shape) :]
    trained.shard(init_device_mesh("cpu", shape, mesh_dim_names=names))
    held = sum(
        value.to_local().numel() if isinstance(value, DTensor) else value.numel()
        for value in tree_leaves([list(trained.network.parameters()), trained.ema.shadow])
    )
    norms = learn(trained, range(2, 5), rank, world_size)
    x, t, tokens, _ = batch(0)
    with torch.no_grad(), trained.averaged():  # ranks need not do the same in there
        pictures = [predict(trained.network, x, t, tokens) for _ in range(1 - rank % 2)]
    norms += learn(trained, range(5, 7), rank, world_size)
    state = trained.state_dict()
    with trained.exported():
        written = dict(trained.network.state_dict())
    if rank == 0:
        found = {"norms": norms, "state": state, "pictures": pictures, "written": written}
        torch.save(found | {"held": held}, folder / "found.pt")
    else:  # what only one process is to have weighs nothing on the others
        assert {v.device.type for v in tree_leaves((state["network"], written))} == {"meta"}
    dist.destroy_process_group()


def one_process(folder: Path) -> dict[str, Any]:
    trained = make()
    learn(trained, range(2), 0, 1)
    torch.save(trained.state_dict(), folder / "begun.pt")
    norms = learn(trained, range(2, 5), 0, 1)
    x, t, tokens, _ = batch(0)
    with torch.no_grad(), trained.averaged():
        pictures = [predict(trained.network, x, t, tokens)]
    norms += learn(trained, range(5, 7), 0, 1)
    with trained.exported():
        written = {name: value.clone() for name, value in trained.network.state_dict().items()}
    return {
        "norms": norms, "state": trained.state_dict(), "pictures": pictures, "written": written,
        "held": 2 * sum(p.numel() for p in trained.network.parameters()),
    }  # fmt: skip


@pytest.mark.parametrize(
    "shape, change",
    [
        ((2,), "plain"),
        pytest.param((2,), "recomputed", marks=pytest.mark.slow),
        pytest.param((2, 2), "plain", marks=pytest.mark.slow),  # two machines of two
    ],
)
def test_shared_out_is_as_whole(shape, change, tmp_path):
    wanted = one_process(tmp_path)
    mp.start_processes(live, (shape, tmp_path, change), nprocs=torch.Size(shape).numel(),
                       start_method="spawn")  # fmt: skip
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found.pop("held") < 0.55 * wanted.pop("held")
    values, expected = (
        {keystr(path): value for path, value in tree_flatten_with_path(tree)[0]}
        for tree in (found, wanted)
    )
    assert values.keys() == expected.keys()
    for path, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert type(values[path]) is torch.Tensor
            torch.testing.assert_close(values[path], value, rtol=0.0, atol=1e-9)
        else:
            assert values[path] == value
