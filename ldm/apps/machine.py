"""What the machine offers: accelerators, cores, memory, disk. Findings for `ldm doctor`."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ldm.apps.probe import Probe

GB = 1e9
INSTALL = "Run `make setup`, or `pip install -c constraints.txt -e .` in a fresh environment."


@dataclass(frozen=True)
class Check:
    """One finding: ok, warn (something will be slower or missing) or fail (something breaks)."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str  # what was found
    remedy: str = ""  # what to do or type; empty if nothing


def accelerators(found: Probe) -> list[Check]:
    """The devices that torch sees: one line each, or why there is none."""
    if found.error:
        return [Check("torch", "fail", f"import torch: {found.error}", INSTALL)]
    facts = found.facts
    build = f"CUDA {facts['cuda']}" if facts["cuda"] else "no CUDA"
    checks = [Check("torch", "ok", f"{facts['version']} ({build}), CPU kernels {facts['cpu']}")]
    for index, device in enumerate(facts["devices"]):
        detail = f"{device['name']}, {device['bytes'] / GB:.0f} GB"
        if device["bf16"]:
            checks.append(Check(f"cuda:{index}", "ok", f"{detail}, bf16"))
        else:
            remedy = "Train with precision=16-mixed or precision=32-true."
            checks.append(Check(f"cuda:{index}", "warn", f"{detail}, no fast bf16", remedy))
    if facts.get("nccl"):
        checks.append(Check("nccl", "ok", f"{facts['nccl']}, cuDNN {facts['cudnn']}"))
    if facts["mps"]:
        checks.append(Check("mps", "ok", "Apple GPU"))
    if len(checks) == 1 and shutil.which("nvidia-smi"):
        remedy = (
            "Compare the driver that `nvidia-smi` shows with torch's CUDA; update the driver, or "
            "install torch for the driver you have. In a container: `docker run --gpus all`."
        )
        checks.append(Check("gpu", "warn", "nvidia-smi is here, but torch sees no GPU", remedy))
    elif len(checks) == 1:
        checks.append(Check("gpu", "ok", "none; the demo and the digits need none"))
    return checks


def memory_bytes() -> int:
    """The machine's memory, as the container limits it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        memory = min(memory, int(text))
    return memory


def usable_cores() -> int:
    """How many CPU cores this process may use, a container's quota aside."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cores_and_memory() -> Check:
    """CPU cores that this process may use and memory, as the container limits it."""
    memory = memory_bytes()
    detail = f"{usable_cores()} cores, {memory / GB:.1f} GB of memory"
    if memory < 4 * GB:
        return Check("cpu", "warn", detail, "The demo wants 4 GB; close other programs.")
    return Check("cpu", "ok", detail)


def disk(directory: Path) -> Check:
    """Free space where runs are written."""
    free = shutil.disk_usage(directory).free
    detail = f"{free / GB:.1f} GB free in {directory}"
    if free < 1 * GB:
        return Check("disk", "fail", detail, "Free some space, or work in another folder.")
    if not os.access(directory, os.W_OK):
        return Check("disk", "warn", f"{directory} is read-only", "Give run= and out= elsewhere.")
    if free < 10 * GB:
        return Check("disk", "warn", detail, "Enough for the demo; real data wants more.")
    return Check("disk", "ok", detail)


def shared_memory(directory: Path = Path("/dev/shm")) -> list[Check]:
    """Room for what worker processes and ranks hand each other; Linux only."""
    if not directory.is_dir():
        return []
    size = shutil.disk_usage(directory).total
    detail = f"{size / GB:.2f} GB in {directory}"
    if size < 1 * GB:
        remedy = "Several GPUs or workers need more: `docker run --shm-size=16g`."
        return [Check("shared memory", "warn", detail, remedy)]
    return [Check("shared memory", "ok", detail)]
