"""The machine that a benchmark runs on, in words."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Cores, processor and Python."""
    return f"machine: {os.cpu_count()} cores, {_processor()}; Python {platform.python_version()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
