"""What the training loop costs beside the steps it takes; rows for `make bench-trainer`.

Each pair does the same work in turn on one pinned core, and the median over pairs is shown.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from machine import machine
from paired import one_core, paired
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ldm.apps.beginning import quiet
from ldm.apps.build import build
from ldm.apps.compose import compose
from ldm.apps.stages.assembly import Assembly
from ldm.apps.trainer import make_trainer
from ldm.apps.watchers import open_loggers, watch
from ldm.callbacks.interruption import Interruption
from ldm.data.batches import ImageBatch, train_loader
from ldm.data.order import OneBucket, Share, Slot
from ldm.nn.ema import Ema
from ldm.random import normal, stream
from ldm.tasks.trained import MicroSteps, Trained, step_together

STEPS, PAIRS, WIDTH, BATCH = 3000, 7, 64, 8


def rows(steps: int = STEPS) -> Iterator[str]:
    """The loop's overhead, the host's waits in a quiet step, and the average's update."""
    quiet()
    with one_core():
        spent = [(_loop_seconds(_ours, steps), _loop_seconds(_bare, steps)) for _ in range(PAIRS)]
        milliseconds = 1e3 * median(ours - bare for ours, bare in spent) / (steps - 1)
        bare = 1e3 * median(bare for _, bare in spent) / (steps - 1)
        yield (
            f"our loop over {steps} steps of a tiny model, {bare:.2f} ms each in a bare loop: "
            f"{milliseconds:.2f} ms more (must 0.8, goal 0.6)"
        )
        yield f"host synchronisations in a step that logs nothing: {_most_waits()} (must 0)"
        ratio = paired(*_averages(), 1)
        yield f"average of 686 tensors against a loop over them: {ratio} (must 5, goal 8)"


class _Pictures:
    """Batches of noise."""

    counts, sizes_px, buckets = [10**9], [(8, 8)], OneBucket()

    def __getitem__(self, slot: Slot) -> ImageBatch:
        image = torch.ones(len(slot.index), WIDTH)
        ids = torch.empty(len(slot.index), 0, dtype=torch.int64)
        return ImageBatch(slot.step, slot.index, image, ids, micro_steps=slot.micro_steps)

    def describe(self, slot: Slot) -> list[dict[str, Any]]:
        return []


class _Task(pl.LightningModule):
    """A small regression, trained as every stage is."""

    product = "network"

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.step = 0
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.trained = {
            "network": Trained(
                self.network,
                make_optimizer=lambda parameters: torch.optim.AdamW(parameters, fused=True),
                learning_rate=lambda step: 1e-3,
                max_gradient_norm=1.0,
                ema_decay=0.999,
            )
        }
        self.micro_steps = MicroSteps()

    def configure_optimizers(self) -> list[Any]:
        return [self.trained["network"].optimizer]

    def on_fit_start(self) -> None:
        self.trained["network"].follow()

    def loss(self, batch: ImageBatch) -> Tensor:
        noise = normal(stream(0, "noise", batch.step), batch.index, (WIDTH,))
        return (self.network(batch.image + noise) - batch.image).square().mean()

    def training_step(self, batch: ImageBatch, batch_index: int) -> dict[str, Tensor]:
        loss = self.loss(batch)
        logs = {"loss": loss.detach()}
        if self.micro_steps.backward(self, loss, batch.micro_steps):
            logs["gradient_norm"] = step_together(self.trained, self.step)["network"]
            self.step += 1
        return logs


def _loader(steps: int) -> Any:
    shares = [Share(BATCH, BATCH)]
    return train_loader(_Pictures(), shares, start_step=0, stop_step=steps, workers=0)


class _Clock(pl.Callback):
    """Seconds from the end of the first step to that of the last, which it makes the last."""

    def __init__(self, steps: int) -> None:
        self.steps, self.seconds = steps, 0.0

    def tick(self, step: int) -> None:
        """Take note of the end of a step (1, 2, ...)."""
        if step == 1:
            self.seconds = -time.perf_counter()
        if step == self.steps:
            self.seconds += time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.tick(module.step)
        trainer.should_stop = module.step == self.steps  # nothing is validated at the end


def _ours(clock: _Clock, *more: pl.Callback) -> None:
    """All that `ldm train` does in its loop, with a line logged every 20 steps."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        words = [
            "experiment=demo_diffusion", "data.root=.", f"run={folder}", f"global_batch={BATCH}",
            "size=8", "checkpoint_every=1000000", "validate_every=1000000",
        ]  # fmt: skip
        config, task = compose("train", words), _Task()
        pictures: Any = _Pictures()
        assembly = Assembly(
            task=task, batches=pictures, held_out=pictures, part="", draw=None,
            initialise=lambda path: None, write_model=lambda path: None,
            write_trained=lambda path: None,
        )  # fmt: skip
        watchers = watch(config, assembly, {}, Interruption())
        loggers = open_loggers(config, assembly, 0, watchers.backends)
        trainer = make_trainer(config, [*watchers.callbacks, *more, clock], loggers)
        trainer.fit(task, _loader(clock.steps))


def _bare(clock: _Clock) -> None:
    """The same steps in a loop of a few lines, which watches nothing and guards nothing."""
    task = _Task()
    part = task.trained["network"]
    parameters = list(task.network.parameters())
    assert part.ema is not None
    for step, batch in enumerate(_loader(clock.steps)):
        task.loss(batch).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        for group in part.optimizer.param_groups:
            group["lr"] = part.learning_rate(step)
        part.optimizer.step()
        part.optimizer.zero_grad(set_to_none=True)
        part.ema.update(step + 1)
        clock.tick(step + 1)


def _loop_seconds(loop: Callable[[_Clock], None], steps: int) -> float:
    clock = _Clock(steps)
    loop(clock)
    return clock.seconds


class _Waits(TorchDispatchMode):
    """Counts what would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += function.overloadpacket.__name__ == "_local_scalar_dense"
        return function(*args, **(kwargs or {}))


class _Quiet(pl.Callback):
    """Counts them in the steps that log nothing."""

    def __init__(self, waits: _Waits) -> None:
        self.waits, self.before, self.most = waits, 0, 0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if module.step > 1 and module.step % 20:
            self.most = max(self.most, self.waits.count - self.before)
        self.before = self.waits.count


def _most_waits() -> int:
    with _Waits() as waits:
        quiet_steps = _Quiet(waits)
        _ours(_Clock(100), quiet_steps)
    return quiet_steps.most


def _averages() -> tuple[Callable[[], None], Callable[[], None]]:
    """Ours and a loop in the manner of CompVis' LitEma over parameters shaped as the SD UNet's.

    The decay is a buffer there, so that each parameter takes three small operations with tensors.
    Sizes are a thirty-second: what is measured is the loop, not the memory.
    """
    with torch.device("meta"):
        network = build(compose("train", ["experiment=sd1_256", "data.root=.", "run=."]).backbone)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            small = torch.randn([max(1, size // 32) for size in parameter.shape])
            setattr(module, name, nn.Parameter(small))
    ours, ok = Ema(network, decay=0.9999), torch.tensor(True)
    average, names = nn.Module(), {}
    average.register_buffer("decay", torch.tensor(0.9999))
    for name, parameter in network.named_parameters():
        names[name] = name.replace(".", "")
        average.register_buffer(names[name], parameter.detach().clone())

    @torch.no_grad()
    def theirs() -> None:
        one_minus_decay = 1.0 - average.decay  # type: ignore[operator]
        parameters, shadow = dict(network.named_parameters()), dict(average.named_buffers())
        for name, parameter in parameters.items():
            kept = shadow[names[name]]
            kept.sub_(one_minus_decay * (kept - parameter))

    return lambda: ours.update(10**6, ok), theirs


def main() -> None:
    """Print the machine, then one line per number."""
    print(machine())
    for row in rows():
        print(row, flush=True)


if __name__ == "__main__":
    main()
