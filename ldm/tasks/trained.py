"""A network in training: its optimizer, learning rate, clipping and moving average."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ldm.nn.ema import Ema
from ldm.tasks.sharding import gathered, saying, share_out, whole


class Trained:
    """One network and everything that moves its weights.

    ``make_optimizer`` takes pairs of name and parameter, as torch's optimizers do;
    ``learning_rate`` maps the step (0, 1, ...) to a rate, so there is no scheduler state to save;
    gradients are clipped to ``max_gradient_norm`` over the whole network; ``ema_decay`` None keeps
    no average. Once ``sharded``, each process holds a part of all this, and whatever says so below
    is called by all processes together.
    """

    sharded = False

    def __init__(
        self,
        network: nn.Module,
        *,
        make_optimizer: Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer],
        learning_rate: Callable[[int], float],
        max_gradient_norm: float,
        ema_decay: float | None,
    ) -> None:
        self.network = network
        self.optimizer = make_optimizer(network.named_parameters())
        self.learning_rate = learning_rate
        self.max_gradient_norm = max_gradient_norm
        self.ema = None if ema_decay is None else Ema(network, decay=ema_decay)

    def step(self, step: int) -> Tensor:
        """Apply the accumulated gradients as optimizer step ``step``; their norm before clipping.

        A norm that is not finite raises ValueError before any weight is touched.
        """
        norm = nn.utils.clip_grad_norm_(
            self.network.parameters(), self.max_gradient_norm, foreach=True
        )
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        if not bool(norm.isfinite()):
            raise ValueError(
                f"the gradient at step {step} is not finite; the weights of the last checkpoint "
                "are intact. Lower lr, lengthen warmup_steps, or use precision=32-true."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        with torch.autocast(norm.device.type, enabled=False):  # products of weights are not forward
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.network, step + 1)
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the network computes with its average, where there is one.

        Sharded: entered and left by all processes together; within, each may compute alone.
        """
        with ExitStack() as stack:
            if self.ema is not None:
                stack.enter_context(self.ema.applied(self.network))
            if self.sharded:
                stack.enter_context(gathered(self.network))
            yield

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Within the block the network's state is the average, where there is one, to be written.

        Sharded: entered by all processes together; the first has the state, and its network is not
        to compute.
        """
        if not self.sharded:
            with self.averaged():
                yield
            return
        state = self.network.state_dict()
        if self.ema is not None:
            state |= {name: v.to(state[name].dtype) for name, v in self.ema.state_dict().items()}
        with saying(self.network, whole(state)):
            yield

    def shard(self, mesh: DeviceMesh) -> None:
        """Share the weights, optimizer state and average out among the processes of ``mesh``."""
        share_out(self.network, self.optimizer, self.ema, mesh)
        self.sharded = True
        self.follow()

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer and average, in plain containers.

        Sharded: called by all processes together; whole tensors on the first.
        """
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }
        return whole(state) if self.sharded else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave; ValueError when the architecture differs."""
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise ValueError(
                "the checkpoint belongs to another architecture: "
                f"{str(error).splitlines()[1].strip()} Use the configuration it was trained with, "
                "or another run=."
            ) from error
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])

    def follow(self) -> None:
        """Move the average to where Lightning has moved the network (and the optimizer's state)."""
        if self.ema is not None:
            self.ema.to(next(self.network.parameters()).device)


class MicroSteps:
    """Counts micro-batches into optimizer steps, which may have different numbers of them."""

    def __init__(self) -> None:
        self._done = 0

    def backward(self, task: LightningModule, loss: Tensor, micro_steps: int) -> bool:
        """Backpropagate the share of one of ``micro_steps``; True when it completes the step.

        Gradients travel between ranks only with the last micro-batch of a step.
        """
        self._done = (self._done + 1) % micro_steps
        complete = self._done == 0
        strategy = task.trainer.strategy
        quiet = not complete and isinstance(strategy, ParallelStrategy)
        with strategy.block_backward_sync() if quiet else nullcontext():  # type: ignore[attr-defined]
            task.manual_backward(loss / micro_steps)
        return complete
