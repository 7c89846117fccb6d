"""Measures how training bears interruptions, saving and length: `make bench-trainer`.

Nothing is asserted, all is printed. `python benchmarks/trainer.py pause --kills 200` takes single
rows and other numbers. Times of a shared machine are of an order of magnitude only.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from kills import differences, kill_often, train
from machine import machine
from tiny_world import DEMO, TINY, World

from ldm.callbacks.metrics_log import read_jsonl

ROWS = ("kills", "pause", "soak", "loop")
STEPS_PER_KILL, SAVE_EVERY = 12, 2
PAUSE_EVERY, PAUSES, AFTER = 20, 9, 8  # steps between checkpoints, how many, steps looked at after
FIRST = 1000  # steps after which memory should not grow


def main() -> None:
    """Print the machine, then one line per row."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("rows", nargs="*", default=ROWS, help=f"of {', '.join(ROWS)}; all if none")
    asked.add_argument("--kills", type=int, default=50)
    asked.add_argument("--soak-steps", type=int, default=20_000)
    options = asked.parse_args()
    print(machine(), flush=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row in options.rows:
            lines = {
                "kills": lambda: kills(folder / "kills", options.kills),
                "pause": lambda: pause(folder / "pause"),
                "soak": lambda: soak(folder / "soak", options.soak_steps),
                "loop": loop,
            }[row]()
            for line in lines:
                print(line, flush=True)


def kills(folder: Path, count: int) -> Iterator[str]:
    """SIGKILL at random moments of a tiny diffusion run, against the same run undisturbed."""
    max_steps = STEPS_PER_KILL * count
    words = [f"max_steps={max_steps}", f"checkpoint_every={SAVE_EVERY}", "log_every=1",
             "warmup_steps=1", f"validate_every={max_steps // 4}"]  # fmt: skip
    world = World(folder, TINY)
    peace, killed = folder / "peace", folder / "killed"
    if train(world.train("diffusion", peace, *words)).wait() != 0:
        raise RuntimeError("the undisturbed run failed")
    command = world.train("diffusion", killed, *words)
    found = kill_often(command, killed, max_steps=max_steps, kills=count, seed=0)
    wrong = list(differences(peace, killed))
    yield (
        f"{found.kills} kills, {found.in_a_save} of them inside a save (checkpoint every "
        f"{SAVE_EVERY} steps), at most {found.most_steps_lost} steps to be done again: "
        + ("weights, average, optimizer and log equal bit for bit" if not wrong else str(wrong))
    )


def pause(folder: Path) -> Iterator[str]:
    """The steps around checkpoints of the demo UNet against its median step."""
    world, run = World(folder, DEMO), folder / "run"
    steps = PAUSE_EVERY * (PAUSES + 1) + AFTER + 1
    words = [f"max_steps={steps}", f"checkpoint_every={PAUSE_EVERY}", "log_every=1",
             "validate_every=100000", "preview.num=0"]  # fmt: skip
    if train(world.train("diffusion", run, *words)).wait() != 0:
        raise RuntimeError("the run failed")
    rows = [row for row in read_jsonl(run / "metrics.jsonl") if "images_per_second" in row]
    # A line is written before its step's checkpoint: what that takes is in the next one's time.
    seconds = [1.0 / row["images_per_second"] * rows[0]["images_seen"] for row in rows]
    step = median(seconds)
    saved = [PAUSE_EVERY * i for i in range(2, PAUSES + 2)]  # the first also takes its memory
    own = median(seconds[s] - step for s in saved) / step
    later = median(sum(seconds[s : s + AFTER]) - AFTER * step for s in saved) / step
    first = (seconds[PAUSE_EVERY] - step) / step
    size = (run / "checkpoints" / f"step_{saved[-1]:09d}.pt").stat().st_size / 1e6
    yield (
        f"one checkpoint of the demo UNet ({size:.0f} MB, step {step * 1e3:.0f} ms): the step it "
        f"falls into is {own:.2f} steps longer, the {AFTER} steps from there {later:.2f} in all; "
        f"medians of {PAUSES} (the first of the run: {first:.2f})"
    )


def soak(folder: Path, steps: int) -> Iterator[str]:
    """Resident memory of a long tiny run that validates, draws and saves."""
    world, run = World(folder, TINY), folder / "run"
    words = [f"max_steps={steps}", "checkpoint_every=100", "validate_every=200", "log_every=10",
             "models_every=1000", "keep_models=2"]  # fmt: skip
    process = train(world.train("diffusion", run, *words))
    most: dict[int, int] = {}  # by thousands of steps
    while process.poll() is None:
        rows = read_jsonl(run / "metrics.jsonl")[-1:]
        if rows and (resident := _resident_bytes(process.pid)):
            thousand = int(rows[0]["step"]) // FIRST
            most[thousand] = max(most.get(thousand, 0), resident)
        time.sleep(0.5)
    if process.returncode != 0:
        raise RuntimeError(f"the run ended with {process.returncode}")
    whole = [most[i] for i in sorted(most) if i < max(1, steps // FIRST)]
    yield (
        f"memory over {steps:,} steps: {whole[0] / 1e6:.1f} MB at most in the first {FIRST:,}, "
        f"{whole[-1] / 1e6:.1f} MB in the last ({whole[-1] / whole[0] - 1.0:+.2%}); most of all "
        f"{max(whole) / 1e6:.1f} MB"
    )


def loop() -> Iterator[str]:
    """What the loop costs beside the step itself."""
    if importlib.util.find_spec("trainer_loop") is not None:
        yield from importlib.import_module("trainer_loop").rows()


def _resident_bytes(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    resident = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(next(resident, "VmRSS: 0").split()[1]) * 1024


if __name__ == "__main__":
    main()
