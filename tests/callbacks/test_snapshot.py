"""Copies of a state: as it was, in the same memory, plain."""

import numpy as np
import pytest
import torch

from ldm.callbacks.snapshot import Snapshot


def test_it_is_the_state_of_the_moment_in_memory_that_is_used_again():
    weight = torch.randn(3, 4, 5, 5).to(memory_format=torch.channels_last)
    state = {"a": {"w": weight, "steps": [1, (0.9, 0.99)]}, "b": torch.tensor(7), "c": None}
    snapshot = Snapshot()
    first = snapshot.take(state)
    before = weight.clone()
    weight.zero_()
    assert torch.equal(first["a"]["w"], before) and first["a"]["w"].stride() == weight.stride()
    assert first["a"]["steps"] == [1, (0.9, 0.99)] and first["b"] == 7 and first["c"] is None
    second = snapshot.take(state)
    assert second["a"]["w"].data_ptr() == first["a"]["w"].data_ptr()
    assert not second["a"]["w"].any()
    grown = snapshot.take({"a": {"w": torch.ones(2)}})  # of another shape
    assert grown["a"]["w"].tolist() == [1.0, 1.0]


def test_what_would_not_load_is_refused_by_its_place():
    with pytest.raises(TypeError, match=r"dog\.1 is a <class 'numpy.float64'>"):
        Snapshot().take({"dog": [1.0, np.float64(2.0)]})


@pytest.mark.gpu
def test_from_a_gpu_it_lies_in_pinned_memory():
    value = torch.randn(1000, device="cuda")
    taken = Snapshot().take({"w": value})["w"]
    assert taken.is_pinned() and torch.equal(taken, value.cpu())
