import pytest
import torch

from ldm.metrics.one_thread import one_thread


def test_threads_are_given_back_also_after_a_failure():
    def fails():
        with one_thread():
            inside.append(torch.get_num_threads())
            raise ValueError

    before, inside = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError):
            fails()
        assert inside == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
