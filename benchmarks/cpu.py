"""Measures the README's table on this machine: `make bench`. Nothing is asserted, all is printed.

Runs the demo and the digits recipe in fresh directories and times the commands a user waits for.
Times are wall times of one run; on a shared machine only their order of magnitude carries over.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

LDM = [sys.executable, "-m", "ldm.apps.main"]
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print the machine, then one line per number."""
    print(machine())
    print(f"python train.py --help: {_seconds([sys.executable, 'train.py', '--help']):.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        for recipe in ("demo", "digits"):
            out = Path(folder) / recipe
            seconds = _seconds([*LDM, "run", f"recipe={recipe}", f"out={out}"])
            print(f"ldm run recipe={recipe}: {seconds:.0f} s")
            for step, spent in json.loads((out / "timings.json").read_text()).items():
                print(f"  {step}: {spent:.0f} s")
            for name, entry in json.loads((out / "metrics.json").read_text()).items():
                print(f"  {name}: {entry['value']:.4g}")
            if recipe == "demo":
                print(f"command to first diffusion step: {_first_step(out):.1f} s")


def _seconds(command: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _first_step(recipe: Path) -> float:
    """From the command to the end of one training step, checkpoint and model left out of the way.

    metrics.jsonl gets its first line right after the first step.
    """
    run = recipe / "first_step"
    settings = [f"data.root={recipe / 'latents'}", f"run={run}", "log_every=1", "max_steps=2000"]
    begun = time.monotonic()
    process = subprocess.Popen(
        [*LDM, "train", "experiment=demo_diffusion", *settings],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not (run / "metrics.jsonl").is_file():
            if process.poll() is not None:
                raise RuntimeError("the training run ended before its first step")
            time.sleep(0.02)
        return time.monotonic() - begun
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
