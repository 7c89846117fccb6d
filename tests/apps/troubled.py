"""`ldm` with a trouble on one rank, which the environment names: TROUBLE, TROUBLED_RANK."""

import os
import signal
import sys
import time

from ldm.apps.main import main
from ldm.callbacks.sample_grid import SampleGrid
from ldm.data.batches import LatentBatches
from ldm.tasks.diffusion import DiffusionTask

STEP = 2
TROUBLE, TROUBLED_RANK = os.environ["TROUBLE"], int(os.environ["TROUBLED_RANK"])
RANK = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))  # torchrun | our launcher


def act(kind: str, step: int) -> None:
    """The trouble, where this is the rank, the place and the step for it."""
    if not TROUBLE.startswith(kind) or step != STEP:
        return
    if RANK != TROUBLED_RANK:
        if TROUBLE == "step, others busy":
            time.sleep(1000)
        return
    print(f"trouble at {time.time()}", file=sys.stderr, flush=True)
    if TROUBLE == "step, killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if TROUBLE == "grid, slow":
        time.sleep(float(os.environ["TROUBLE_SECONDS"]))
    elif TROUBLE == "data":
        raise ValueError("this record is wrong; mend it.")
    else:
        raise KeyError("a bug")


def troubled(kind: str, function, step_of):
    def call(*arguments):
        act(kind, step_of(*arguments))
        return function(*arguments)

    return call


DiffusionTask.training_step = troubled("step", DiffusionTask.training_step, lambda t, *_: t.step)
SampleGrid.__call__ = troubled("grid", SampleGrid.__call__, lambda grid, trainer, task: task.step)
LatentBatches.__getitem__ = troubled("data", LatentBatches.__getitem__, lambda b, slot: slot.step)

if __name__ == "__main__":
    sys.exit(main())
