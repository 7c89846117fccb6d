"""What the system allows a process: open files, and cores by a container's quota."""

import shutil
import subprocess
from pathlib import Path

from ldm.apps.machine import Check, usable_cores

_FEW_FILES = 4096
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def open_files() -> list[Check]:
    """How many files a process may have open; nothing on systems without such a limit."""
    try:
        import resource
    except ImportError:
        return []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    if unlimited or soft >= _FEW_FILES:
        return [Check("open files", "ok", "any number" if unlimited else f"{soft:,} per process")]
    most = _FEW_FILES * 16 if hard == resource.RLIM_INFINITY else min(hard, _FEW_FILES * 16)
    remedy = f"Many shards and workers need more: `ulimit -n {most}` before the command."
    return [Check("open files", "warn", f"{soft:,} per process", remedy)]


def quota(file: Path = _QUOTA) -> list[Check]:
    """Cores by a container's quota, where that is below those which it shows."""
    try:
        limit, period = file.read_text().split()
        cores = int(limit) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return []
    shown = usable_cores()
    if cores >= shown:
        return []
    threads = max(1, int(cores))
    remedy = f"More threads than that only wait: export OMP_NUM_THREADS={threads}."
    return [Check("quota", "warn", f"{cores:g} of the {shown} cores may be used", remedy)]


def driver() -> list[Check]:
    """The version of NVIDIA's driver, where its tool is."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Check("driver", "warn", f"nvidia-smi does not answer: {error}", _DRIVER)]
    versions = sorted({*done.stdout.split()})
    if done.returncode or not versions:
        said = (done.stderr or done.stdout).strip().splitlines()
        return [Check("driver", "warn", f"nvidia-smi: {said[-1] if said else 'failed'}", _DRIVER)]
    return [Check("driver", "ok", f"NVIDIA {', '.join(versions)}")]


_DRIVER = "Restart the machine or its container; in Docker: `docker run --gpus all`."
