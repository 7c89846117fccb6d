"""Pieces of work that processes take in turn."""

import pytest
import torch

from ldm.nn.ranks import turns


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_all_pieces_are_done_once_and_spread_evenly(monkeypatch, count, ranks):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: ranks)
    done = []
    for rank in range(ranks):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        done.append(list(turns(count)))
    assert sorted(piece for mine in done for piece in mine) == list(range(count))
    assert max(map(len, done)) - min(map(len, done)) <= 1


def test_alone_one_does_all_in_order():
    assert list(turns(4)) == [0, 1, 2, 3]
