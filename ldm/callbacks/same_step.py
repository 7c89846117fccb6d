"""All processes begin at the same step, or none."""

from typing import Any

import torch
from pytorch_lightning import Callback, Trainer


class SameStep(Callback):
    """ValueError on all processes where they would begin at different steps.

    So it is where they do not share a file system, and some find no checkpoint or an older one.
    """

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        if trainer.world_size == 1:
            return
        steps = torch.tensor([module.step, -module.step], device=module.device)
        torch.distributed.all_reduce(steps, torch.distributed.ReduceOp.MAX)
        most, least = int(steps[0]), -int(steps[1])
        if least != most:
            raise ValueError(
                f"the processes would begin at different steps, from {least} to {most}: they do "
                "not find the same checkpoints. Put run= on a file system that all machines share, "
                "and start all of them at the same time with the same resume=."
            )
