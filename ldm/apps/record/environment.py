"""What the running code stands on: Python, machine, packages, and variables that steer them."""

import os
import platform
import re
import socket
import sys
from pathlib import Path
from typing import Any

import torch

from ldm.apps.build import device_of
from ldm.apps.credentials import without_credentials

# By which programs of ours and libraries below them are steered. Others may hold secrets.
_PREFIXES = (
    "CUBLAS_", "CUDA_", "CUDNN_", "GLOO_", "KMP_", "LDM_", "MKL_", "NCCL_", "NVIDIA_", "OMP_",
    "PYTORCH_", "TORCH", "TRITON_",
)  # fmt: skip
_NAMES = {
    "HF_HOME", "HF_HUB_OFFLINE", "LD_LIBRARY_PATH", "LD_PRELOAD", "LOCAL_RANK", "MASTER_ADDR",
    "MASTER_PORT", "NODE_RANK", "PYTHONHASHSEED", "PYTHONPATH", "RANK", "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST", "SLURM_NNODES", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_RESTART_COUNT",
    "WANDB_MODE", "WORLD_SIZE",
}  # fmt: skip
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|JWT", re.IGNORECASE)


def environment(accelerator: str) -> dict[str, Any]:
    """Facts for a record; GPUs are asked for only where ``accelerator`` makes use of them."""
    on_gpu = device_of(accelerator).type == "cuda"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count() * on_gpu)]
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "gpus": names,
        "cuda": torch.version.cuda,
        "variables": variables(),
        "packages": packages(),
    }


def variables() -> dict[str, str]:
    """Environment variables that matter, and none whose name speaks of a secret."""
    return {
        name: without_credentials(value)
        for name, value in sorted(os.environ.items())
        if (name in _NAMES or name.startswith(_PREFIXES)) and not _SECRET.search(name)
    }


def packages() -> dict[str, str]:
    """Versions of all installed packages, by the names of their folders of metadata.

    Reading the metadata itself of some hundred packages would take longer than the rest of a start.
    """
    found: dict[str, str] = {}
    for place in reversed(sys.path):  # what comes first in the path is what is imported
        for folder in Path(place or ".").glob("*.dist-info"):
            name, _, version = folder.name.removesuffix(".dist-info").partition("-")
            found[name.replace("_", "-").lower()] = version
    return dict(sorted(found.items()))
