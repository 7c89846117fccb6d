"""Whether all ranks still train the same network."""

from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor


class SameWeights(Callback):
    """Compares step, weights and averages of all ranks, at the start and whenever called.

    ValueError on every rank where one differs. What is compared is an exact checksum, two numbers
    for each network. Of a network that is sharded only the step is compared.
    """

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        self(trainer, module)

    def __call__(self, trainer: Trainer, module: Any) -> None:
        """Compare now."""
        if trainer.world_size == 1:
            return
        found = {"step": torch.tensor(module.step, device=module.device)}
        for name, part in module.trained.items():
            if not getattr(part, "sharded", False):
                found[f"weights of the {name}"] = checksum(part.network.parameters())
                if part.ema is not None:
                    found[f"averages of the {name}"] = checksum(part.ema.shadow.values())
        mine = torch.stack(list(found.values()))
        ranks = [torch.empty_like(mine) for _ in range(trainer.world_size)]
        torch.distributed.all_gather(ranks, mine)
        table = torch.stack(ranks).tolist()
        for number, name in enumerate(found):
            others = [rank for rank, row in enumerate(table) if row[number] != table[0][number]]
            if others:
                raise ValueError(_came_apart(module.step, name, others, table))


def checksum(tensors: Any) -> Tensor:
    """The sum of all bit patterns, an int64 scalar: the same in any order, on any device."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [t.detach().view(integers[t.element_size()]).sum(dtype=torch.int64) for t in tensors]
    return torch.stack(sums).sum()


def _came_apart(step: int, name: str, others: list[int], table: list[list[int]]) -> str:
    ranks = ", ".join(map(str, others))
    if name == "step":
        return (
            f"rank 0 begins at step {table[0][0]} and rank {others[0]} at step "
            f"{table[others[0]][0]}: they read different checkpoints. All machines must see the "
            "same run= directory; put it on a file system they share."
        )
    return (
        f"at step {step} the {name} on rank {ranks} are no longer those of rank 0, so what is "
        "trained is no longer one network. A device or its memory that computes wrongly does that. "
        "Train again from a checkpoint before it (the same command goes on from the last), without "
        "that device."
    )
