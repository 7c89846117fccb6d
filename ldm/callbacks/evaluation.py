"""Evaluation during training: pictures noted by all ranks, numbers computed by the first."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from ldm.callbacks.metrics_log import MetricsLog, log
from ldm.callbacks.patience import Patience
from ldm.manifest import read_json, write_json
from ldm.metrics.one_thread import one_thread
from ldm.nn.ranks import turns

Piece = tuple[str, int]
"""A set of pictures and the number of a block of it."""

Found = dict[Piece, dict[str, dict[str, Tensor]]]
"""Of each piece, by observer, named rows (B, ...) on the CPU."""

Records = dict[str, dict[str, Any]]
"""By name, a value and its protocol, as in a metrics file."""


class _UnderWay(NamedTuple):
    """An evaluation whose pictures are noted and whose numbers are not logged yet."""

    step: int
    seconds: float  # for which training stood still
    found: Found
    records: Future[Records]


class Evaluation(Callback):
    """Notes pictures when called, and logs the numbers that follow as ``val/NAME`` of that step.

    ``note`` gives what is noted of a piece: of those in ``lasting`` at the first call only, of
    those in ``changing`` with the averaged weights at every call. Pieces are the same for any
    number of ranks, which take them in turn; ``conclude`` makes the records on rank 0. With
    ``beside`` it does so in a thread while training goes on, which is for training on a GPU: on
    the CPU there is no other core for it. ``path`` holds the latest records.

    What fails is told in one line, and training goes on. The state is what is under way, so that
    a resumed run logs it too.
    """

    def __init__(
        self,
        note: Callable[[Piece], dict[str, dict[str, Tensor]]],
        conclude: Callable[[Found], Records],
        *,
        lasting: Sequence[Piece],
        changing: Sequence[Piece],
        path: Path,
        patience: Patience,
        metrics_log: MetricsLog,
        beside: bool,
    ) -> None:
        self.note, self.conclude = note, conclude
        self.lasting, self.changing = tuple(lasting), tuple(changing)
        self.path, self.patience, self.metrics_log = path, patience, metrics_log
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evaluation")
        self._beside = beside
        self._kept: Found | None = None  # the lasting pieces, on rank 0; {} on others
        self._under_way: _UnderWay | None = None
        self._restored: dict[str, Any] = {}

    def __call__(self, trainer: Trainer, module: Any) -> None:
        """Evaluate the weights of this step."""
        begun = time.perf_counter()
        self._log(trainer)  # of the call before, where that is still under way
        pieces = [*(self.lasting if self._kept is None else ()), *self.changing]
        module.eval()
        context = trainer.precision_plugin.forward_context()  # the precision of training
        with context, torch.no_grad(), module.trained[module.product].averaged():
            mine = self._noted([pieces[i] for i in turns(len(pieces))], trainer.global_rank)
        module.train()
        ranks = self.patience.gather(mine)
        failures = [found for found in ranks if isinstance(found, str)]
        if failures:
            self._tell(trainer, module.step, failures[0])
        elif not trainer.is_global_zero:
            self._kept = {}
        else:
            found = {piece: rows for each in ranks for piece, rows in each.items()}
            found |= self._kept or {}
            self._kept = {piece: found[piece] for piece in self.lasting}
            self._begin(module.step, time.perf_counter() - begun, found)
            if not self._beside:
                self._log(trainer)
        self.metrics_log.leave_out(time.perf_counter() - begun)

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        if self._restored and trainer.is_global_zero and not self._is_logged():
            self._begin(**self._restored)
        self._restored = {}

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if self._under_way is not None and self._under_way.records.done():
            self._log(trainer)

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        self._log(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What is under way; empty where nothing is."""
        if self._under_way is None:
            return {}
        step, seconds, found, _ = self._under_way
        return {"step": step, "seconds": seconds, "found": found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was under way, when training starts."""
        self._restored = state

    def _noted(self, pieces: Sequence[Piece], rank: int) -> Found | str:
        try:
            return {piece: self.note(piece) for piece in pieces}
        # Whatever it is: an evaluation is not worth days of training, and the others wait.
        except Exception as error:
            return f"rank {rank}: {_in_short(error)}"

    def _is_logged(self) -> bool:
        """Whether what the checkpoint calls under way had come to its end before the run did."""
        latest = read_json(self.path).values() if self.path.is_file() else ()
        return any(record["step"] >= self._restored["step"] for record in latest)

    def _begin(self, step: int, seconds: float, found: Found) -> None:
        if self._beside:
            records = self._thread.submit(self._concluded, found)
        else:
            records, begun = Future(), time.perf_counter()
            try:
                records.set_result(self._concluded(found))
            except Exception as error:  # as above
                records.set_exception(error)
            seconds += time.perf_counter() - begun
        self._under_way = _UnderWay(step, seconds, found, records)

    def _concluded(self, found: Found) -> Records:
        with one_thread():  # a team of them would take cores that feed the GPUs
            return self.conclude(found)

    def _log(self, trainer: Trainer) -> None:
        """Wait for the numbers that are under way, if any, and log them."""
        if self._under_way is None:
            return
        (step, seconds, _, records), self._under_way = self._under_way, None
        try:
            found = {name: record | {"step": step} for name, record in records.result().items()}
        except Exception as error:  # as above
            self._tell(trainer, step, _in_short(error))
            return
        values = {f"val/{name}": float(record["value"]) for name, record in found.items()}
        log(trainer, step, values | {"evaluate_seconds": seconds})
        try:
            write_json(self.path, found)
        except OSError as error:
            print(f"could not write {self.path} ({error.strerror}). Training goes on.", flush=True)

    def _tell(self, trainer: Trainer, step: int, reason: str) -> None:
        if trainer.is_global_zero:
            print(f"step {step} could not be evaluated ({reason}). Training goes on.", flush=True)


def _in_short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else ""
    if isinstance(error, ValueError) and said:
        return said.rstrip(".")  # a sentence for the user
    return f"{type(error).__name__}: {said}".rstrip(": .")
