"""Resume state on disk: whole or absent, and loadable without executing anything."""

import pickle
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer

from ldm.manifest import atomic


class Checkpoint:
    """Saves the run's state when called; keeps the last ``keep``.

    The state is one integer (the step) and each trained network with its optimizer and average;
    frozen networks are not in it. Rank 0 writes, every rank waits.
    """

    def __init__(self, directory: str | Path, *, keep: int) -> None:
        self.directory, self.keep = Path(directory), keep

    def __call__(self, trainer: Trainer, module: Any) -> None:
        """Write a checkpoint, read it back, then drop the oldest beyond ``keep``."""
        together = any(part.sharded for part in module.trained.values())
        if trainer.is_global_zero or together:
            trained = {name: part.state_dict() for name, part in module.trained.items()}
        if trainer.is_global_zero:
            path = self.directory / f"step_{module.step:09d}.pt"
            state = {"step": module.step, "trained": trained}
            try:
                with atomic(path) as temporary:
                    with open(temporary, "wb") as file:
                        torch.save(state, file)
                    torch.load(temporary, weights_only=True, map_location="cpu", mmap=True)
            except (OSError, RuntimeError) as error:
                # torch closes its archive after a failed write, and complains about that instead.
                cause = error if isinstance(error, OSError) else error.__context__
                if not isinstance(cause, OSError):
                    raise
                raise ValueError(
                    f"could not save {path} ({cause.strerror or cause}); the checkpoint before it "
                    "is intact. Free some space or choose another run=, then run the same command."
                ) from error
            for old in _found(self.directory)[: -self.keep]:
                old.unlink()
        trainer.strategy.barrier("checkpoint")


def _found(directory: Path) -> list[Path]:
    """The checkpoints of a directory, oldest first."""
    return sorted(directory.glob("step_" + "[0-9]" * 9 + ".pt"))


def restore(directory: str | Path, module: Any, *, mmap: bool = False) -> int:
    """Load the newest readable checkpoint into a task; its step, 0 when there is none.

    A damaged file is named and the one before it taken. With ``mmap`` the processes of a machine
    share the pages of the file, which the optimizer's state goes on lying in.
    """
    for path in reversed(_found(Path(directory))):
        try:
            state = torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"{path} is damaged ({reason}); going on from the checkpoint before it.")
            continue
        if state["trained"].keys() != module.trained.keys():
            raise ValueError(
                f"{path} holds {', '.join(state['trained'])}, but this run trains "
                f"{', '.join(module.trained)}. Use its own configuration, or another run=."
            )
        for name, part in module.trained.items():
            part.load_state_dict(state["trained"][name])
        module.step = state["step"]
        return module.step
    return 0
