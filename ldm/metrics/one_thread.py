"""Numbers on one thread: the same bits whatever number of threads torch was given."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch computes on one thread, in the whole process.

    Sums of several threads differ in their last bits from those of one; and where other work shares
    the cores, eigenvalues wait for the slowest of a team: ten times as long as one thread takes.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
