"""Batch normalisation over ranks equals plain batch normalisation of the whole batch."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import nn

from ldm.nn.batch_norm import GlobalBatchNorm2d, over_global_batch


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, 4, 4, generator=generator, dtype=torch.float64) * 3.0 + 1.0
    return x, torch.randn(8, 3, 4, 4, generator=generator, dtype=torch.float64)


def _one_rank(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    x, weight = (part[rank::2] for part in _data())
    x = x.clone().requires_grad_()
    norm = GlobalBatchNorm2d(3).double()
    out = norm(x)
    (out * weight).sum().backward()
    found = {"out": out.detach(), "grad": x.grad, "running": norm.running_var}
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_normalise_over_both_batches(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_rank, args=(port, str(tmp_path)), nprocs=2)
    x, weight = _data()
    x.requires_grad_()
    norm = nn.BatchNorm2d(3).double()
    out = norm(x)
    (out * weight).sum().backward()
    assert x.grad is not None
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["out"], out.detach()[rank::2], rtol=0, atol=1e-12)
        torch.testing.assert_close(found["grad"], x.grad[rank::2], rtol=0, atol=1e-12)
        torch.testing.assert_close(found["running"], norm.running_var, rtol=0, atol=1e-12)


def test_one_process_is_plain_batch_norm() -> None:
    x, _ = _data()
    plain = nn.BatchNorm2d(3).double()
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()).double()
    over_global_batch(network)
    assert isinstance(network[0], GlobalBatchNorm2d)
    assert network.double()(x).equal(plain(x).relu())


def test_parameters_and_names_are_kept() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    with torch.no_grad():
        network[1].weight.fill_(2.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    over_global_batch(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].equal(value), name


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_followed(training: bool) -> None:
    norm = GlobalBatchNorm2d(3).train(training)
    norm(torch.randn(4, 3, 2, 2) + 5.0)
    assert bool((norm.running_mean != 0).any()) is training  # type: ignore[union-attr]
