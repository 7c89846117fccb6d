"""Resume state: saved beside training, kept through every failure, loadable without running code.

A checkpoint is {"step", "trained": {name: state of a network, its optimizer and its average},
"watchers": {name: state of a callback}, "record": who made it, from which code and data}: plain
containers and tensors, no frozen network.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from pytorch_lightning import Callback, Trainer

from ldm.callbacks import checkpoint_file
from ldm.callbacks.patience import Patience
from ldm.callbacks.snapshot import Snapshot

LONG_WAIT_SECONDS = 1.0


class Watcher(Protocol):
    """A callback whose state decides what is learned from here on."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Checkpoint(Callback):
    """Saves the run's state when called; keeps the last ``keep``.

    Training waits for a copy in memory only; rank 0 writes that in a thread, one at a time. An old
    checkpoint goes after the new one has been read back. Where one cannot be written, that is said
    and training goes on: ``failure`` is the reason, None again after the next that succeeds. No
    process ends before what is under way is written: launchers end the first one soon after the
    others. At the end of training all know of a ``failure``.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep: int,
        every_steps: int,
        patience: Patience,
        watchers: Mapping[str, Watcher] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory, self.keep, self.every_steps = Path(directory), keep, every_steps
        self.patience = patience
        self.watchers, self.record = watchers or {}, record or {}
        self.failure: str | None = None
        self._snapshot = Snapshot()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None
        self._said_slow = False

    def __call__(self, trainer: Trainer, module: Any) -> None:
        """Take the state of this step and begin to write it."""
        parts = module.trained
        # Of all ranks, which may have to add up theirs.
        watched = {name: watcher.state_dict() for name, watcher in self.watchers.items()}
        if trainer.is_global_zero:
            self._wait_for_the_one_before()
        elif not any(part.sharded for part in parts.values()):
            return
        state = {
            "step": module.step,
            "trained": {name: part.state_dict() for name, part in parts.items()},
            "watchers": watched,
            "record": self.record,
        }
        if trainer.is_global_zero:
            sound, taken = _is_finite(state["trained"]), self._snapshot.take(state)
            self._under_way = self._thread.submit(self._save, taken, sound, trainer.should_stop)

    def wait(self) -> None:
        """Until nothing is under way."""
        if self._under_way is not None:
            self._under_way.result()
            self._under_way = None

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        self.wait()
        self.failure = self.patience.gather(self.failure)[0]

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        self.wait()

    def newest(self) -> int | None:
        """The step of the newest checkpoint that is there, None without any."""
        paths = checkpoint_file.found(self.directory)
        return checkpoint_file.step_of(paths[-1]) if paths else None

    def _wait_for_the_one_before(self) -> None:
        begun = time.monotonic()
        self.wait()
        waited = time.monotonic() - begun
        if waited > LONG_WAIT_SECONDS and not self._said_slow:
            self._said_slow = True
            print(
                f"training waited {waited:.0f} s for the checkpoint before to be written: a larger "
                f"checkpoint_every than {self.every_steps}, or a faster disk, avoids that.",
                flush=True,
            )

    def _save(self, state: dict[str, Any], sound: bool, stopping: bool) -> None:
        """In the thread: write, and drop what is then one too many.

        No tensor is computed here: OpenMP would give this thread a team of its own, and with more
        threads than cores lets all of them sleep between operations, which doubles their time.
        """
        step = state["step"]
        path = checkpoint_file.path_of(self.directory, step)
        try:
            if not sound:
                raise OSError("its weights are not finite")
            checkpoint_file.write(path, state)
        except OSError as error:
            self.failure = error.strerror or str(error)
            newest, again = self.newest(), (step // self.every_steps + 1) * self.every_steps
            there = "no earlier one is there" if newest is None else f"that of step {newest} stays"
            more = "" if stopping else f" Training goes on, and it is tried again at step {again}."
            print(f"could not save {path} ({self.failure}); {there}.{more}", flush=True)
            return
        self.failure = None
        # A later one is damaged, or the run would have begun there: it does not count.
        paths = [p for p in checkpoint_file.found(self.directory) if p <= path]
        for old in paths[: -self.keep]:
            try:
                old.unlink(missing_ok=True)
            except OSError as error:
                print(f"could not delete {old} ({error.strerror}); it stays.", flush=True)


def _is_finite(trained: Mapping[str, Any]) -> bool:
    """Whether networks may take the place of those saved before."""
    values = [value for part in trained.values() for value in part["network"].values()]
    return bool(torch.stack([value.isfinite().all() for value in values]).all())


def restore(
    directory: str | Path,
    module: Any,
    watchers: Mapping[str, Watcher] | None = None,
    *,
    mmap: bool = False,
) -> int:
    """Load the newest readable checkpoint into a task and watchers; its step, 0 without any file.

    A damaged file is named and the one before it taken; ValueError where there are only such. A
    watcher that the checkpoint does not know begins anew. With ``mmap`` the processes of a machine
    share the pages of the file, which the optimizer's state goes on lying in.
    """
    paths = checkpoint_file.found(Path(directory))
    for path in reversed(paths):
        try:
            state = checkpoint_file.read(path, mmap=mmap)
        except ValueError as error:
            print(f"{path} is damaged ({error}); looking for the checkpoint before it.")
            continue
        if state["trained"].keys() != module.trained.keys():
            raise ValueError(
                f"{path} holds {', '.join(state['trained'])}, but this run trains "
                f"{', '.join(module.trained)}. Use its own configuration, or another run=."
            )
        for name, part in module.trained.items():
            part.load_state_dict(state["trained"][name])
        known = state.get("watchers", {})  # older files have none
        for name, watcher in (watchers or {}).items():
            if name in known:
                watcher.load_state_dict(known[name])
        module.step = state["step"]
        return module.step
    if paths:
        raise ValueError(
            f"no checkpoint in {directory} can be read ({len(paths)} damaged). Copy one back from "
            "elsewhere, or begin anew with resume=never (this run is moved aside)."
        )
    return 0
