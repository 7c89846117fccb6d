"""Measures reading and writing a full-size Stable Diffusion 1 UNet: `python benchmarks/files.py`.

Builds it with random weights (3.4 GB), writes it, reads it, runs it once. Memory is the growth of
the process's resident set; times are compared with safetensors' own `load_file`, both with every
page touched, in processes of their own that take turns. Only ratios carry over to other machines.
"""

import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from ldm.backbones.unet import UNet
from ldm.interop.diffusers import read_unet, write_unet
from ldm.interop.diffusers_files import WEIGHTS
from ldm.types import Condition

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "backbone" / "unet_sd1.yaml"
TURNS = 3
GIB = 2**30


def main() -> None:
    """Print one line per number."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(build, folder)
        size = (Path(folder) / WEIGHTS).stat().st_size
        print(f"file: {size / GIB:.2f} GiB")
        times: dict[str, list[float]] = {"read_unet": [], "load_file": []}
        for _ in range(TURNS):
            for name, read in (("read_unet", ours), ("load_file", theirs)):
                seconds, grown = spawn(read, folder)
                times[name].append(seconds)
                print(f"{name}: {seconds:.2f} s, memory {grown / size:.2f} x the file")
        medians = {name: statistics.median(found) for name, found in times.items()}
        print(f"time, read_unet / load_file: {medians['read_unet'] / medians['load_file']:.2f}")
        seconds, peak = spawn(run, folder)
        print(f"one step at 64 x 64 latents: {seconds:.1f} s, peak memory {peak / GIB:.1f} GiB")


def spawn(function: Callable[[str], Any], folder: str) -> Any:
    """The result of a function in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (folder,))


def build(folder: str) -> None:
    """Write the network with PyTorch's random weights."""
    settings = yaml.safe_load(CONFIG.read_text())
    settings.pop("_target_")
    write_unet(UNet(**settings), folder, sample_size=64)


def ours(folder: str) -> tuple[float, int]:
    """Seconds and bytes of reading the network and touching every weight."""
    return measured(lambda: [p.detach() for p in read_unet(folder).parameters()])


def theirs(folder: str) -> tuple[float, int]:
    """Seconds and bytes of reading the file and touching every weight."""
    return measured(lambda: list(load_file(Path(folder) / WEIGHTS).values()))


def measured(read: Callable[[], list[torch.Tensor]]) -> tuple[float, int]:
    """Seconds, and bytes that the resident set has grown by."""
    before, begun = resident(), time.perf_counter()
    tensors = read()
    float(sum(tensor.sum() for tensor in tensors))
    return time.perf_counter() - begun, resident() - before


def resident() -> int:
    """Bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run(folder: str) -> tuple[float, int]:
    """Seconds of one evaluation at 512 px, and the peak memory of the process in bytes."""
    network = read_unet(folder).eval()
    condition = Condition(tokens=torch.randn(1, 77, 768))
    begun = time.perf_counter()
    with torch.no_grad():
        out = network(torch.randn(1, 4, 64, 64), torch.tensor([500]), condition)
    assert out.isfinite().all()
    seconds = time.perf_counter() - begun
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
