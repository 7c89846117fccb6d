"""Ranks that train different networks are told apart, exactly and by name."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ldm.callbacks.same_weights import SameWeights, checksum


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_checksum_sees_one_bit_and_no_order(dtype):
    torch.manual_seed(0)
    tensors = [torch.randn(3, 4, 2, 2).to(dtype), torch.randn(1000).to(dtype), torch.zeros(())]
    whole = checksum(tensors)
    assert whole.dtype == torch.int64
    assert torch.equal(checksum(tensors[::-1]), whole)
    there = [t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for t in tensors]
    assert torch.equal(checksum(there), whole)
    tensors[1][5] = torch.nextafter(tensors[1][5], tensors[1][5] + 1)
    assert not torch.equal(checksum(tensors), whole)


def test_a_difference_names_step_network_and_ranks(monkeypatch):
    network = nn.Linear(2, 1)
    shadow = {"weight": network.weight.detach().clone()}
    part = SimpleNamespace(network=network, ema=SimpleNamespace(shadow=shadow))
    task = SimpleNamespace(step=7, device=torch.device("cpu"), trained={"denoiser": part})
    trainer = SimpleNamespace(world_size=3)
    changes = {}  # rank -> what is added to its row: step, weights, averages

    def all_gather(ranks, mine):
        for rank, row in enumerate(ranks):
            row.copy_(mine + torch.tensor(changes.get(rank, [0, 0, 0])[: len(mine)]))

    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    compare = SameWeights()
    compare(trainer, task)
    for row, said in (
        ([0, 1, 0], "at step 7 the weights of the denoiser on rank 1, 2 "),
        ([0, 0, 1], "at step 7 the averages of the denoiser on rank 1, 2 "),
        ([3, 9, 9], "rank 0 begins at step 7 and rank 1 at step 10: "),
    ):
        changes |= {1: row, 2: row}
        with pytest.raises(ValueError, match=said):
            compare.on_train_start(trainer, task)
    part.sharded = True
    changes |= {1: [0, 9, 9], 2: [0, 9, 9]}
    compare(trainer, task)  # shards differ by design
    trainer.world_size = 1
    monkeypatch.delattr(torch.distributed, "all_gather")
    compare(trainer, task)
