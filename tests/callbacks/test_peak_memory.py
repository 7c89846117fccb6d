"""The most memory that training held."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ldm.callbacks import peak_memory
from ldm.callbacks.peak_memory import PeakMemory


def test_on_the_cpu_it_is_what_the_process_held():
    found = PeakMemory(torch.device("cpu")).take()
    assert found > 0.05
    status = Path("/proc/self/status")
    if status.is_file():  # Linux says it in another place, too
        kilobytes = int(status.read_text().split("VmHWM:")[1].split()[0])
        assert found == pytest.approx(1024 * kilobytes / 1e9, rel=0.05)


def test_the_process_that_held_most_counts(monkeypatch):
    monkeypatch.setattr(peak_memory, "max_over_ranks", lambda held: torch.maximum(held, held + 1))
    usage = SimpleNamespace(ru_maxrss=2e9 / peak_memory._MAXRSS_BYTES)
    monkeypatch.setattr(peak_memory.resource, "getrusage", lambda who: usage)
    assert PeakMemory(torch.device("cpu")).take() == pytest.approx(3.0)


@pytest.mark.gpu
def test_on_a_gpu_it_is_what_was_allocated_since_it_was_asked_last():
    memory = PeakMemory(torch.device("cuda", 0))
    memory.take()
    held = torch.empty(250_000_000, device="cuda")
    del held
    assert memory.take() == pytest.approx(1.0, abs=0.1)
    assert memory.take() < 0.9
