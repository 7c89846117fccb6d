"""A network in training: its optimizer, learning rate, clipping and moving average."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from ldm.nn.local import local
from ldm.tasks.loss_scale import LossScale
from ldm.tasks.sharding import gathered, saying, share_out, whole


class Trained:
    """One network and everything that moves its weights.

    ``make_optimizer`` takes pairs of name and parameter, as torch's optimizers do;
    ``learning_rate`` maps the step (0, 1, ...) to a rate, so there is no scheduler state to save;
    gradients are clipped to ``max_gradient_norm`` over the whole network; ``ema_decay`` None keeps
    no average. Once ``sharded``, each process holds a part of all this, and whatever says so below
    is called by all processes together.

    A step whose gradient is not finite is skipped on the device: weights, the optimizer's state,
    buffers and the average stay, and the host is not asked. That takes an optimizer with torch's
    protocol for it (``found_inf``: fused ones, and ``Muon``); before others the host waits for the
    gradient at every step. ``loss_scale`` is that of an fp16 loss.
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
        self.optimizer: Any = make_optimizer(network.named_parameters())
        self._skips_on_device = getattr(self.optimizer, "_step_supports_amp_scaling", False)
        self.learning_rate = learning_rate
        self.max_gradient_norm = max_gradient_norm
        self.ema = None if ema_decay is None else Ema(network, decay=ema_decay)
        self.loss_scale: LossScale | None = None
        self.follow()

    def step(self, step: int, ok: Tensor | None = None) -> Tensor:
        """Apply the accumulated gradients as optimizer step ``step``; their norm before clipping.

        Skipped where that norm is not finite or ``ok`` (a bool on the device) is false.
        """
        return step_together({"": self}, step, ok)[""]

    def clip(self) -> Tensor:
        """Clip the accumulated gradients; their norm before that, a scalar on the device."""
        if self.loss_scale is not None:
            gradients = local(p.grad for p in self._parameters if p.grad is not None)
            torch._foreach_mul_(gradients, 1.0 / self.loss_scale.scale)
        norm = nn.utils.clip_grad_norm_(self._parameters, self.max_gradient_norm, foreach=True)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def move(self, step: int, ok: Tensor, counts: Tensor | None = None) -> None:
        """Take step ``step`` along the clipped gradients, or where ``ok`` is false stay and count.

        Not counted where ``counts`` is false: gradients overflow while a loss scale is found.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        bad = (~ok).float()
        if self._skips_on_device:
            self.optimizer.found_inf = bad
        if self._skips_on_device or bool(ok):
            with torch.autocast(ok.device.type, enabled=False):  # products of weights: no forward
                self.optimizer.step()
        for parameter in self._parameters:
            parameter.grad = None
        self._keep_buffers(ok)
        if self.ema is not None:
            self.ema.update(step + 1, ok)
        self._count(bad if counts is None else bad * counts)

    def _keep_buffers(self, ok: Tensor) -> None:
        """Statistics of a batch norm that saw what is not finite are those of the step before."""
        for now, kept in zip(self._buffers, self._kept, strict=True):
            torch.where(ok, now, kept, out=kept)
            now.copy_(kept)

    def _count(self, bad: Tensor) -> None:
        number, in_a_row, ago = self._skips.unbind()
        number.add_(bad)
        in_a_row.add_(1.0).mul_(bad)
        ago.add_(torch.maximum(ago.sign(), bad))  # counts on, once it counts

    def skips(self) -> Tensor:
        """Steps skipped since ``looked``, those in a row until now, the first's age: (3,) float32.

        An age of 1 is the last step's, 0 that of none. On the device, to be read when one logs.
        """
        return self._skips

    def looked(self) -> None:
        """Begin to count anew, but for those in a row."""
        self._skips[::2] = 0.0

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
        self.follow()

    def follow(self) -> None:
        """Move what belongs to the network to where Lightning has moved it."""
        self._parameters = list(self.network.parameters())
        self._buffers = list(self.network.buffers())
        self._kept = [buffer.clone() for buffer in self._buffers]
        self._skips = torch.zeros(3, device=self._parameters[0].device)
        if self._skips_on_device:
            self.optimizer.grad_scale = None  # gradients are unscaled before they are clipped
        if self.ema is not None:
            self.ema.follow(self.network)
        if self.loss_scale is not None:
            self.loss_scale.to(self._skips.device)


def step_together(
    parts: Mapping[str, Trained], step: int, ok: Tensor | None = None
) -> dict[str, Tensor]:
    """All parts take step ``step``, or none where a gradient of any is not finite; norms by name.

    Networks that learn from each other stay in step: a discriminator that moved on alone would
    have learnt from pictures that its autoencoder did not. Nor do they where ``ok`` is false.
    """
    norms = {name: part.clip() for name, part in parts.items()}
    moves = functools.reduce(Tensor.logical_and, [norm.isfinite() for norm in norms.values()])
    if ok is not None:
        moves = moves & ok
    scale, counts = next(iter(parts.values())).loss_scale, None  # one for all
    if scale is not None:
        sound = scale.take_sound()
        counts = ~sound | scale.is_least
        scale.update(moves | ~sound)
    for part in parts.values():
        part.move(step, moves, counts)
    return norms


class MicroSteps:
    """Counts micro-batches into optimizer steps, which may have different numbers of them."""

    def __init__(self) -> None:
        self._done = 0

    def backward(self, task: LightningModule, loss: Tensor, micro_steps: int) -> bool:
        """Backpropagate the share of one of ``micro_steps``; True when it completes the step.

        Gradients travel between ranks only with the last micro-batch of a step. A loss that is not
        finite makes all its gradients so, on whichever rank: every rank sees it in their sum.
        """
        self._done = (self._done + 1) % micro_steps
        complete = self._done == 0
        strategy = task.trainer.strategy
        quiet = not complete and isinstance(strategy, ParallelStrategy)
        factor = loss.detach() * 0.0 + 1.0  # 1, or not finite
        scale = task.trained[task.product].loss_scale  # type: ignore[index,union-attr]
        if scale is not None:
            scale.see(loss)
            factor = factor * scale.scale
        with strategy.block_backward_sync() if quiet else nullcontext():  # type: ignore[attr-defined]
            task.manual_backward(loss / micro_steps * factor)
        return complete
