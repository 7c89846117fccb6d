"""Libraries tried in a process of their own: a crash or a hang on import is a finding.

One process imports them one after the other, since each needs the one before, and says after each
what it saw; where it falls silent is what does not work.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NO_ANSWER = "no answer"
STAGES = {  # library -> code that sets `facts`
    "torch": """
import torch
cuda = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
facts = {
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "mps": torch.backends.mps.is_available(),
    "cpu": torch.backends.cpu.get_cpu_capability(),
    "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
    "cudnn": torch.backends.cudnn.version() if cuda else None,
    "devices": [
        {"name": p.name, "bytes": p.total_memory, "bf16": p.major >= 8}
        for p in map(torch.cuda.get_device_properties, cuda)
    ],
}
""",
    # nms is a compiled operator: calling it proves that the two builds fit.
    "torchvision": """
import torchvision
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
facts = {}
""",
    "pytorch_lightning": """
import pytorch_lightning
facts = {}
""",
}


@dataclass(frozen=True)
class Probe:
    """What trying a library gave: its facts; or why there are none."""

    facts: Mapping[str, Any]
    error: str = ""
    tried: bool = True  # False: a library before it failed


def try_libraries(
    stages: Mapping[str, str] = STAGES,
    *,
    timeout_seconds: float = 120,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Probe]:
    """Run the stages in one fresh Python, stopping at the first that fails.

    The exception's last line, the signal or the time limit becomes that stage's ``error``.
    ``environment`` holds variables beside those of this process.
    """
    script = "import json\n" + "".join(
        f"{code}\nprint(json.dumps([{name!r}, facts]), flush=True)\n"
        for name, code in stages.items()
    )
    # -P: a file torch.py in the working directory is not what is to be tried.
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        start_new_session=True,  # compilers and loaders that it starts end with it
    )
    try:
        output, messages = process.communicate(timeout=timeout_seconds)
        error = (messages.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        if process.returncode < 0:
            error = f"the process was killed by signal {-process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, messages = process.communicate()
        error = f"{NO_ANSWER} within {timeout_seconds:g} s"
    except BaseException:  # Ctrl-C, which its session does not hear
        os.killpg(process.pid, signal.SIGKILL)
        raise

    lines = [line for line in output.splitlines() if line.startswith('["')]
    seen = {name: Probe(facts) for name, facts in map(json.loads, lines)}
    absent = [name for name in stages if name not in seen]
    failed = {
        name: Probe({}, error) if i == 0 else Probe({}, f"not tried: {absent[0]} failed", False)
        for i, name in enumerate(absent)
    }
    return seen | failed
